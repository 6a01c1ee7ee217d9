"""Fetching cutouts by position: services, requests, manifest and store."""
