"""A stand-in for the image services that ``galmorph fetch`` asks: real HTTP on loopback, with their lies and faults.

``StandIn`` serves a made-up ``Sky`` the way the Legacy Surveys viewer, the SDSS servers, CDS hips2fits and the brick
archive do. Faults are injected with ``StandIn.inject``; ``StandIn.seen`` counts what a client did.
"""

from standin.server import Fault, Request, Seen, StandIn
from standin.sky import Box, Galaxy, Sky

__all__ = ["Box", "Fault", "Galaxy", "Request", "Seen", "Sky", "StandIn"]
