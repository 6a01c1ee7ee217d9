"""Footprints refuse what is hopeless, and nothing else."""

import numpy as np
import pytest
from astropy.table import Table

from galmorph.errors import GalmorphError
from galmorph.retrieval import footprint


@pytest.fixture
def bricks(tmp_path):
    """A table of bricks between ra 0 and 40, of which those between 10 and 20 were observed."""
    ra, dec = (grid.ravel() for grid in np.meshgrid(np.arange(0, 40, 0.25), np.arange(-5, 5, 0.25)))
    observed = ((ra >= 10) & (ra < 20)).astype(np.int16)
    table = Table({"ra1": ra, "ra2": ra + 0.25, "dec1": dec, "dec2": dec + 0.25})
    table["nexp_g"] = table["nexp_r"] = observed
    table["nexp_z"] = 0
    table.write(tmp_path / "survey-bricks-dr9-south.fits.gz")
    return tmp_path / "survey-bricks-dr9-south.fits.gz"


def test_footprint_of_bricks(bricks, tmp_path, monkeypatch):
    footprint.from_bricks(bricks).save(str(tmp_path / "ls-dr9.fits"), format="fits")
    monkeypatch.setenv("GALMORPH_FOOTPRINTS", str(tmp_path))
    found = footprint.load("ls-dr9")
    inside = np.random.default_rng(0).uniform([10, -5], [20, 5], (1000, 2))
    assert found.may_cover(*inside.T).all()
    # A cutout beside the footprint may reach into it.
    assert found.may_cover(np.array([9.95, 20.05]), np.array([0.0, 0.0])).all()
    assert not found.may_cover(np.array([8.0, 22.0, 30.0, 15.0]), np.array([0.0, 0.0, 0.0, 8.0])).any()


def test_no_footprint_no_refusal(tmp_path, monkeypatch):
    monkeypatch.delenv("GALMORPH_FOOTPRINTS", raising=False)
    assert footprint.load("ls-dr9") is None
    monkeypatch.setenv("GALMORPH_FOOTPRINTS", str(tmp_path))
    assert footprint.load("ls-dr9") is None


def test_not_a_footprint(tmp_path, monkeypatch):
    (tmp_path / "ls-dr9.fits").write_text("hello")
    monkeypatch.setenv("GALMORPH_FOOTPRINTS", str(tmp_path))
    with pytest.raises(GalmorphError, match=r"ls-dr9\.fits is not a MOC"):
        footprint.load("ls-dr9")
    with pytest.raises(GalmorphError, match="not a table of bricks"):
        footprint.from_bricks(tmp_path / "ls-dr9.fits")


def test_bands_that_were_not_observed(bricks):
    with pytest.raises(GalmorphError, match="no brick that was observed in z"):
        footprint.from_bricks(bricks, "z")
