"""Files: reading, atomic writing, locks, the journal of a run, plain FITS."""
