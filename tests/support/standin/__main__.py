"""Run the stand-in as a process of its own: ``python tests/support/standin [--latency S] [--port N] [--real FOLDER]``.

``--real`` shows the cutouts (FITS cubes) of a folder at their places. The URL is the first line printed. Each further
line read from standard input is answered with what the server has seen, as JSON; end of input ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from standin import Sky, StandIn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    sky = Sky(real=sorted(options.real.glob("*.fits"))) if options.real else None
    with StandIn(sky, latency=options.latency, port=options.port) as server:
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
