"""The user's tables: which column means what, positions, and the formats that keep everything else as it was."""
