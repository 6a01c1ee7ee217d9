"""Run the stand-in as a process of its own: ``python tests/standin [--latency S]``; its URL is the first line printed.

Each further line read from standard input is answered with what the server has seen, as JSON; end of input ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from standin import StandIn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    with StandIn(latency=parser.parse_args().latency) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            seen = server.seen
            facts = {
                "requests": len(seen.requests),
                "served": len(seen.served),
                "repeats": seen.repeats(),
                "most_in_flight": seen.most_in_flight,
                "most_in_a_second": seen.most_in_a_second(),
                "connections": seen.connections,
            }
            print(json.dumps(facts), flush=True)
            server.forget()


if __name__ == "__main__":
    main()
