"""From rows to requests: sizes, keys that name the pixels, file names."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galmorph.errors import GalmorphError
from galmorph.retrieval.layout import GALAXY_ZOO_FACTOR, Layout, entries, grids
from galmorph.retrieval.surveys import Imaging
from galmorph.retrieval.surveys.decals import Viewer
from galmorph.tables.catalog import open_catalog


def rows(tmp_path, text, layout=None, source=None, footprint=None, **columns):
    path = tmp_path / "t.csv"
    path.write_text(text)
    catalog = open_catalog(path, **columns)
    layout = layout or Layout(64, 0.262)
    return [e for block in entries(catalog, "decals", source or Viewer(Imaging()), layout, footprint) for e in block]


def test_galaxy_zoo_frames():
    """424 px of 0.02 R90 each, Willett et al. 2013."""
    assert pytest.approx(424 * 0.02) == GALAXY_ZOO_FACTOR
    size, pixscale = Layout(256, 0.262, GALAXY_ZOO_FACTOR).grid(np.array([10.0, 1.0, 200.0, np.nan, 0.0, -3.0, 1e9]))
    assert size.tolist() == [math.ceil(84.8 / 0.262), 33, 3000, 256, 256, 256, 256]
    assert pixscale.tolist() == [0.262, 0.262, pytest.approx(1696 / 3000), 0.262, 0.262, 0.262, 0.262]


@settings(deadline=None)
@given(st.floats(0.01, 1200), st.floats(0.05, 5), st.floats(1, 9))
def test_a_frame_spans_the_factor_and_fits_the_service(radius, pixscale, factor):
    (size,), (scale,) = Layout(256, pixscale, factor).grid(np.array([radius]))
    assert 32 <= size <= 3000
    assert scale >= pixscale
    width = size * scale
    assert width >= factor * radius * (1 - 1e-6)
    assert size == 32 or width <= factor * radius + scale * 1.001


@pytest.mark.parametrize(
    "wrong", [(0, 0.262, None), (3001, 0.262, None), (64, 0, None), (64, math.nan, None), (64, 0.262, 0.0)]
)
def test_what_no_service_gives_is_refused(wrong):
    with pytest.raises(GalmorphError, match=r"(size|pixscale|factor)=.*: a .*number from"):
        Layout(*wrong)


def test_entries(tmp_path):
    found = rows(tmp_path, "name,ra,dec\nngc 1/2,10.5,-3\n,,5\nb,0,0\nc,359.999999999,89.5\n")
    assert [e.problem for e in found] == ["", "ra is empty", "", ""]
    first, bad, zero, edge = found
    assert first.request.target_id == "ngc 1/2"
    assert first.path == f"{first.key[:2]}/ngc_1_2-{first.key}.fits"
    assert "ra=10.50000000&dec=-3.00000000" in first.identity
    assert bad.request is None
    assert (zero.request.ra, zero.request.dec) == (0.0, 0.0)
    assert edge.request.ra == 0.0


def test_the_key_is_that_of_the_pixels(tmp_path):
    text = "name,ra,dec\na,10,20\nb,10,20\na,11,20\n"
    a, b, other = rows(tmp_path, text)
    assert a.key == b.key != other.key
    changed = [
        rows(tmp_path, text, Layout(65, 0.262))[0],
        rows(tmp_path, text, Layout(64, 0.3))[0],
        rows(tmp_path, text, source=Viewer(Imaging(bands=("r",))))[0],
        rows(tmp_path, text, source=Viewer(Imaging(layer="ls-dr10")))[0],
        rows(tmp_path, text, source=Viewer(Imaging(extras=("invvar",))))[0],
    ]
    assert len({a.key, *(e.key for e in changed)}) == 6
    moved = rows(tmp_path, text, source=Viewer(Imaging(base_url="http://127.0.0.1:1/viewer")))[0]
    assert moved.key == a.key


def test_rows_without_identifiers_are_named_by_position(tmp_path):
    first = rows(tmp_path, "ra,dec\n10,20\n11,-21\n")
    later = rows(tmp_path, "ra,dec\n5,5\n10,20\n11,-21\n")
    assert [e.path for e in first] == [e.path for e in later[1:]]
    assert first[1].path.endswith(f"/11.00000-21.00000-{first[1].key}.fits")


@pytest.mark.parametrize("name", ["../../etc/passwd", ".hidden", "a" * 300, "é…", "con\nsole", "-rf"])
def test_file_names_are_safe(tmp_path, name):
    (entry,) = rows(tmp_path, f'name,ra,dec\n"{name}",1,2\n')
    folder, file = entry.path.split("/")
    assert len(folder) == 2
    assert len(file) < 100
    assert file.isascii()
    assert not file.startswith((".", "-"))


def test_a_row_without_size_says_so(tmp_path):
    text = "name,ra,dec,petroR90_r\na,1,2,10\nb,1,2,\n"
    a, b = rows(tmp_path, text, Layout(64, 0.262, 8.48))
    assert (a.request.size, a.request.radius_arcsec, a.note) == (324, 10.0, "")
    assert (b.request.size, b.note) == (64, "no usable size: framed to 64 px")
    assert "framed" not in rows(tmp_path, text)[1].note


def test_grids_are_unique_and_limited(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,ra,dec\na,1,2\nb,1,2\nbad,,2\nc,3,4\n")
    catalog = open_catalog(path)
    layout = Layout(64, 0.262)
    assert grids(catalog, layout)["ra"].tolist() == [1.0, 3.0]
    assert len(grids(catalog, layout, limit=2)) == 1
    assert grids(catalog, layout).dtype.names == ("ra", "dec", "size", "pixscale")
