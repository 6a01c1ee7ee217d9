"""The target lists that come with the project: right to an arcsecond, and fit to be fetched."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from galmorph.retrieval.layout import Layout
from galmorph.tables.catalog import open_catalog

LISTS = Path(__file__).parents[2] / "catalogs"


def rows(name):
    with (LISTS / name).open() as file:
        return list(csv.DictReader(file))


def apart_arcsec(ra1, dec1, ra2, dec2):
    across = ((ra1 - ra2 + 180) % 360 - 180) * math.cos(math.radians(dec2))
    return 3600 * math.hypot(across, dec1 - dec2)


@pytest.mark.parametrize(("name", "number"), [("well_known.csv", 30), ("stripe82.csv", 25)])
def test_lists_can_be_fetched(name, number):
    catalog = open_catalog(LISTS / name, size_column="r25_arcsec")
    (targets,) = catalog.blocks(100)
    assert catalog.n_rows == len(set(targets.id)) == number
    assert (targets.problem == "").all()
    assert (targets.radius_arcsec > 10).all()
    size, _ = Layout(256, 0.262, 3.0).grid(targets.radius_arcsec)
    assert (size > 100).all()


def test_where_they_are():
    assert all(float(row["dec"]) > -5 for row in rows("well_known.csv"))
    for row in rows("stripe82.csv"):
        assert abs(float(row["dec"])) < 1.27
        assert float(row["ra"]) > 310 or float(row["ra"]) < 60


def test_all_types_are_there():
    types = [row["type"] for row in rows("well_known.csv")]
    for kind in ("E", "S0", "SA(", "SB(", "SAB(", "edge-on", "IBm", "cD"):
        assert any(kind in text for text in types), kind


@pytest.mark.parametrize("name", ["well_known.csv", "stripe82.csv"])
def test_positions_agree_with_openngc(name):
    """OpenNGC is compiled from other sources than these lists were."""
    ongc = pytest.importorskip("pyongc.ongc")
    for row in rows(name):
        ra, dec = ongc.Dso(row.get("ngc") or row["name"]).rad_coords
        off = apart_arcsec(float(row["ra"]), float(row["dec"]), math.degrees(ra), math.degrees(dec))
        assert off < 1.0, (row["name"], off)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["well_known.csv", "stripe82.csv"])
def test_positions_agree_with_the_viewers_catalog(shared, name):
    """The NGC/IC table of the Legacy Surveys' viewer, which is right to an arcminute."""
    from astropy.table import Table

    table = Table.read(shared / "fits/catalog-ngc/ngcic.fits")
    known = {str(entry["name"]).strip(): (float(entry["ra"]), float(entry["dec"])) for entry in table}
    found = [
        apart_arcsec(float(row["ra"]), float(row["dec"]), *known[row.get("ngc") or row["name"]])
        for row in rows(name)
        if (row.get("ngc") or row["name"]) in known
    ]
    assert len(found) > 0.9 * len(rows(name))
    assert np.median(found) < 5
    # Its NGC 867 is another galaxy.
    assert np.sum(np.array(found) > 60) <= 1
