"""The command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line (see :mod:`galmorph.cli.app`)."""
    from galmorph.cli.app import main as run

    run()
