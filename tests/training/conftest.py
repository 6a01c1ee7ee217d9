"""Fixtures of the tests of training."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Decoded pictures go into a folder of the test."""
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
