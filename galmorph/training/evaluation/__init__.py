"""Scoring and calibrating: predictions for labelled galaxies, scores with intervals, temperatures, figures."""
