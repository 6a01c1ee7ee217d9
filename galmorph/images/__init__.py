"""Images of galaxies: cutouts and survey images, their headers, framing, stretch, quality and detection."""
