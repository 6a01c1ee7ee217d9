"""Limits on the sizes of images in pixels."""

from __future__ import annotations

# The largest cutout that the Legacy Surveys' service sends, and that galmorph fetches.
MAX_SIDE_PX = 3000
# Sides of a network's input: a larger one takes gigabytes a batch, and pictures of galaxies have fewer pixels.
MIN_INPUT_PX, MAX_INPUT_PX = 32, 1024
