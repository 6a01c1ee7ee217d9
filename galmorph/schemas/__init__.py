"""Label schemas: one file each, which defines ``SCHEMA``."""
