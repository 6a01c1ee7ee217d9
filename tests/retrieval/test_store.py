"""What to do about a request, what its coverage makes of a cutout, and files that are whole or not there."""

import dataclasses
import errno
import hashlib
import math
import os

import numpy as np
import pytest
from astropy.io import fits

from galmorph.errors import CannotContinue
from galmorph.images.cutout import Cutout, read_cutout
from galmorph.retrieval import store as storage
from galmorph.retrieval.manifest import Recorded
from galmorph.retrieval.request import Request
from galmorph.retrieval.store import Step, coverage_state, decide
from galmorph.retrieval.surveys import Delivery

ORDER = Request("ngc1", 10.0, -5.0, 40, 0.262, 3.5)


def store(delivery, path):
    outcome, chunks = storage.prepare(delivery)
    return dataclasses.replace(outcome, mtime_ns=storage.write(path, chunks)) if chunks else outcome


def flux(shape=(3, 40, 40)):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def delivery(pixels=None, **more):
    cutout = Cutout(
        "ngc1", "decals", ("g", "r", "z"), flux() if pixels is None else pixels, 0.262, 0.262, None, 3.5,
        ORDER.wcs_cards,
    )  # fmt: skip
    return Delivery(cutout, "http://127.0.0.1/fits-cutout?ra=10", "DR9", **more)


@pytest.mark.parametrize(
    ("status", "recorded", "on_disk", "retry", "step"),
    [
        ("ok", 100, 100, False, Step.KEEP),
        ("partial", 100, 100, True, Step.KEEP),
        ("ok", 100, 99, False, Step.FETCH),
        ("ok", 100, None, False, Step.FETCH),
        ("pending", None, None, False, Step.FETCH),
        ("pending", None, 7, False, Step.ADOPT),
        ("failed", None, None, False, Step.KEEP),
        ("failed", None, None, True, Step.FETCH),
        ("no_coverage", None, None, True, Step.KEEP),
    ],
)
def test_decide(status, recorded, on_disk, retry, step):
    stamp = None if on_disk is None else (on_disk, 7)
    assert decide(Recorded("k", "p", status, recorded, 7), stamp, retry_failed=retry) is step


@pytest.mark.parametrize(
    ("mtime_ns", "verify", "step"),
    [(7, False, Step.KEEP), (7, True, Step.COMPARE), (8, False, Step.COMPARE), (None, False, Step.COMPARE)],
)
def test_a_file_of_another_time_is_compared(mtime_ns, verify, step):
    """The time is None in a manifest of an earlier version."""
    recorded = Recorded("k", "p", "ok", 100, mtime_ns)
    assert decide(recorded, (100, 7), retry_failed=False, verify=verify) is step


def zeroed(*places):
    pixels = flux()
    for place in places:
        pixels[place] = 0
    return pixels


@pytest.mark.parametrize(
    ("pixels", "status", "coverage"),
    [
        (flux(), "ok", (1, 1, 1)),
        (zeroed((0, 3, 3)), "ok", (0.9994, 1, 1)),
        (zeroed(0), "partial", (0, 1, 1)),
        (zeroed((slice(None), slice(0, 10))), "partial", (0.75, 0.75, 0.75)),
        # Five pixels are 0.3 % of a plane, but 1.25 % of its central half.
        (zeroed((2, 20, slice(15, 20))), "partial", (1, 1, 0.9969)),
        (zeroed((2, 0, slice(0, 5))), "ok", (1, 1, 0.9969)),
        (zeroed(slice(None)), "no_coverage", (0, 0, 0)),
    ],
)
def test_coverage_sets_the_state(pixels, status, coverage):
    assert coverage_state(("g", "r", "z"), pixels) == (status, dict(zip("grz", coverage, strict=True)))


def test_a_constant_plane_is_a_missing_band():
    pixels = flux()
    pixels[1] = 0.25
    assert coverage_state(("g", "r", "z"), pixels) == ("partial", {"g": 1, "r": 0, "z": 1})


@pytest.mark.parametrize("side", [1, 2, 3])
def test_coverage_of_tiny_cutouts(side):
    assert coverage_state(("r",), np.full((1, side, side), 2, np.float32) + np.arange(side, dtype=np.float32)) == (
        ("ok", {"r": 1.0}) if side > 1 else ("no_coverage", {"r": 0.0})
    )


def test_store(tmp_path):
    path = tmp_path / "ab" / "ngc1.fits"
    outcome = store(delivery(), path)
    assert (outcome.status, outcome.bytes) == ("ok", path.stat().st_size)
    assert outcome.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    cutout = read_cutout(path)
    np.testing.assert_array_equal(cutout.flux, flux())
    assert (cutout.survey, cutout.flux_pixscale, cutout.radius_arcsec) == ("decals", 0.262, 3.5)
    with fits.open(path, checksum=True) as hdus:
        header = hdus[0].header
        assert (header["RELEASE"], header["URL"]) == ("DR9", "http://127.0.0.1/fits-cutout?ra=10")
        assert (header["BANDS"], header["BUNIT"], header["OBJECT"]) == ("grz", "nanomaggy", "ngc1")
        assert (header["CRVAL1"], header["CRVAL2"], header["CRPIX1"]) == (10.0, -5.0, 20.5)
        assert header["CD2_2"] == pytest.approx(0.262 / 3600, rel=1e-15)
        assert {"DATE", "CHECKSUM", "DATASUM", "RADESYS"} <= set(header)
    assert cutout.wcs.pixel_to_world(19.5, 19.5).ra.deg == pytest.approx(10)


def test_store_planes(tmp_path):
    planes = {"INVVAR": flux(), "MASKBITS": np.full((40, 40), 4, np.int32)}
    outcome = store(delivery(planes=planes), tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ["INVVAR", "MASKBITS"]
        np.testing.assert_array_equal(hdus["INVVAR"].data, flux())
    assert read_cutout(tmp_path / "a.fits").mask.all()
    assert outcome.bytes == (tmp_path / "a.fits").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_a_blank_cutout_is_no_file(tmp_path):
    outcome = store(delivery(np.zeros((3, 40, 40), np.float32)), tmp_path / "a.fits")
    assert (outcome.status, list(tmp_path.iterdir())) == ("no_coverage", [])


def test_adopt(tmp_path):
    path = tmp_path / "a.fits"
    stored = store(delivery(), path)
    assert storage.adopt(path, ORDER, ("g", "r", "z")) == stored


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-2880],
        lambda b: b"",
        lambda b: b[:5000] + b"\xff" + b[5001:],
        lambda b: b"<html>" + b,
    ],
)
def test_a_damaged_file_is_not_adopted(tmp_path, damage):
    path = tmp_path / "a.fits"
    store(delivery(), path)
    path.write_bytes(damage(path.read_bytes()))
    assert storage.adopt(path, ORDER, ("g", "r", "z")) is None


@pytest.mark.parametrize(
    "other",
    [Request("x", 10.001, -5.0, 40, 0.262), Request("x", 10.0, -5.0, 41, 0.262), Request("x", 10.0, -5.0, 40, 0.3)],
)
def test_the_file_of_another_order_is_not_adopted(tmp_path, other):
    store(delivery(), tmp_path / "a.fits")
    assert storage.adopt(tmp_path / "a.fits", other, ("g", "r", "z")) is None
    assert storage.adopt(tmp_path / "a.fits", ORDER, ("g", "r", "i")) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_more(tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CannotContinue, match=rf"{os.strerror(number)}.*run the same command again"):
        store(delivery(), tmp_path / "ab" / "a.fits")
    assert list((tmp_path / "ab").iterdir()) == []


def test_clean_removes_half_written_files_only(tmp_path):
    (tmp_path / "ab").mkdir()
    key = "0123456789abcdef"
    for name in (f"ab/.x-{key}.fits.12.part", f"ab/x-{key}.fits", "ab/.mine.part", ".yours.part", "targets.csv"):
        (tmp_path / name).touch()
    # A link leads to a folder that is not galmorph's.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / f".x-{key}.fits.12.part").touch()
    (tmp_path / "cd").symlink_to("elsewhere")
    storage.clean(tmp_path)
    assert sorted(p.name for p in (tmp_path / "ab").iterdir()) == [".mine.part", f"x-{key}.fits"]
    assert (tmp_path / "elsewhere" / f".x-{key}.fits.12.part").exists()
    assert (tmp_path / ".yours.part").exists()


def test_stamps_are_of_plain_files_only(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    os.utime(tmp_path / "a", ns=(7, 7))
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    assert storage.stamp_of(tmp_path / "a") == (3, 7)
    assert [storage.stamp_of(tmp_path / name) for name in ("b", "link", "fifo", ".")] == [None] * 4


def test_unknown_units_are_not_called_nanomaggies(tmp_path):
    store(delivery(unit="unknown"), tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits")["BUNIT"] == "unknown"
    assert storage.adopt(tmp_path / "a.fits", ORDER, ("g", "r", "z")).status == "ok"
    assert math.isfinite(fits.getdata(tmp_path / "a.fits").sum())
