"""Classifying a survey: sources of galaxies, output columns, provenance, resumable runs."""
