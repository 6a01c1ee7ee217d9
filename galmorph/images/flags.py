"""Flags: possible faults of a galaxy's image or of a measurement on it, as bits of the output columns."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag


class Flag(IntFlag):
    """Possible faults of a target or its cutout: the bits of the output column ``morph_flag``."""

    MISSING_BAND = 1
    PARTIAL = 2
    BLANK = 4
    BAD_PIXELS = 8
    UNREADABLE = 16
    UNLIKE_TRAINING = 32
    TOO_SMALL = 64
    BLENDED = 128
    RADIUS_MEASURED = 256
    LARGER_THAN_CUTOUT = 512
    OFF_CENTRE = 1024
    WCS_UNUSABLE = 2048
    PICTURE = 4096


# Notes: the probability is as good as without them. All other bits are faults.
NOTES = Flag.RADIUS_MEASURED | Flag.LARGER_THAN_CUTOUT | Flag.PICTURE


class DetectionFlag(IntFlag):
    """Possible faults of a measurement in a survey image: the bits of the output column ``detection_flag``."""

    DEBLENDED = 1
    EDGE = 2
    SATURATED = 4


def describe_bits(flags: Iterable[IntFlag]) -> str:
    """Return the meaning of the bits of a column of flags, for its description."""
    return "bits: " + ", ".join(f"{flag.value} {(flag.name or '').lower()}" for flag in flags)
