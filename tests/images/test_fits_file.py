"""Files of images: bounds, checksums, and what is no file at all."""

import bz2
import gzip
import io
import lzma
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from made import cutout

from galmorph.errors import CutoutError
from galmorph.images import fits_file
from galmorph.images.cutout import cutout_files, read_cutout, write_cutout
from galmorph.images.survey_image import read_planes


def card(keyword, value):
    return f"{keyword:<8}= {value:>20}".ljust(80)


def block(*cards):
    text = "".join([*cards, "END".ljust(80)])
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


IMAGE = [card("BITPIX", -32), card("NAXIS", 2), card("NAXIS1", 40), card("NAXIS2", 32)]
EMPTY = [card("SIMPLE", "T"), card("BITPIX", 8), card("NAXIS", 0), card("EXTEND", "T")]
NO_END = ("COMMENT " + "x" * 72).encode() * 70_000


@pytest.mark.parametrize(
    "content",
    [
        "".join([card("SIMPLE", "T"), *IMAGE]).encode() + NO_END,
        block(*EMPTY) + "".join(["XTENSION= 'IMAGE   '".ljust(80), *IMAGE]).encode() + NO_END,
        block(card("SIMPLE", "T"), *IMAGE) + bytes(5760) + b"XTENSION= 'IMAGE   '".ljust(80) + NO_END,
    ],
    ids=["primary", "extension", "behind an image"],
)
def test_a_header_without_an_end_is_not_parsed(tmp_path, content, monkeypatch):
    path = tmp_path / "x.fits"
    path.write_bytes(content)
    monkeypatch.setattr(fits, "open", None)  # never asked
    with pytest.raises(CutoutError, match="a header has no END within 4 MiB"):
        read_cutout(path, hdu=0)


def compressed(**cards):
    """A tile-compressed cutout with wrong cards."""
    header = fits.Header({"BUNIT": "nanomaggy", "PIXSCALE": 0.3, "BAND": "r"})
    hdu = fits.CompImageHDU(np.arange(4096, dtype=np.int16).reshape(64, 64), header)
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    content = stream.getvalue()
    for keyword, value in cards.items():
        at = content.rindex(f"{keyword:<8}=".encode())
        content = content[:at] + card(keyword, value).encode() + content[at + 80 :]
    return content


LIES = [
    *({name: value} for name in ("ZNAXIS1", "ZNAXIS2") for value in (10**6, 10**9, 10**12, -900)),
    *({name: value} for name in ("ZTILE1", "ZTILE2") for value in (0, -4)),
    {"ZBITPIX": 99},
    {"ZNAXIS": 7},
    {"TFIELDS": 999},
    {"NAXIS1": 10**9},
    {"NAXIS2": -5},
    {"NAXIS2": 10**12},
    {"PCOUNT": -5},
    {"PCOUNT": 5},
    {"PCOUNT": 10**12},
    {"GCOUNT": 99},
    {"ZVAL2": 99},
]


@pytest.mark.parametrize("cards", LIES, ids=str)
def test_a_compressed_image_that_lies_is_refused_at_once(tmp_path, cards):
    path = tmp_path / "x.fits.fz"
    path.write_bytes(compressed())
    assert read_cutout(path).flux.shape == (1, 64, 64)
    path.write_bytes(compressed(**cards))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CutoutError) as error:
        read_cutout(path)
    assert str(error.value).startswith(f"{path}: ")
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    "extension",
    [
        ["XTENSION= 'IMAGE   '".ljust(80), *IMAGE, card("PCOUNT", -99999), card("GCOUNT", 1)],
        ["XTENSION= 'IMAGE   '".ljust(80), *IMAGE, card("PCOUNT", 0), card("GCOUNT", 10**15)],
        [
            "XTENSION= 'BINTABLE'".ljust(80),
            card("BITPIX", 8),
            *(card(name, value) for name, value in (("NAXIS", 2), ("NAXIS1", 8), ("NAXIS2", 0), ("PCOUNT", -2880))),
            card("GCOUNT", 1),
            card("TFIELDS", 0),
        ],
    ],
    ids=["PCOUNT", "GCOUNT", "a table that ends where it begins"],
)
def test_sizes_that_lie_end(tmp_path, extension):
    path = tmp_path / "x.fits"
    path.write_bytes(block(*EMPTY) + block(*extension) + bytes(5760))
    start = time.process_time()
    with pytest.raises(CutoutError):
        read_cutout(path)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_bombs_of_every_compression_are_bounded(tmp_path, monkeypatch, module):
    monkeypatch.setattr(fits_file, "MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "x.fits"
    path.write_bytes(module.compress(block(card("SIMPLE", "T"), *IMAGE) + bytes(1 << 26)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CutoutError, match="holds more than 1 MiB"):
        read_cutout(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


# ---- checksums


def damaged(path, at):
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("where", "masked"),
    [("pixels", False), ("header", False), ("pixels", True), ("header", True), ("mask", True)],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_byte_of_an_own_cutout_is_found(tmp_path, masked, where, packed):
    made = cutout()
    made = type(made)(**{**vars(made), "mask": np.zeros(made.flux.shape[1:], bool) if masked else None})
    path = tmp_path / "x.fits"
    write_cutout(made, path)
    read_cutout(path)
    content = path.read_bytes()
    pixels = content.index(b"END     ") + 2880 + 5000
    damaged(path, {"pixels": pixels, "header": content.index(b"target") + 1, "mask": -2881}[where])
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(CutoutError, match=r"HDU [01] is not as it was written: its CHECKSUM"):
        read_cutout(path)


def test_an_own_cutout_that_astropy_edited_is_read(tmp_path):
    path = tmp_path / "x.fits"
    write_cutout(cutout(), path)
    fits.setval(path, "RADIUS", value=7.5)
    assert read_cutout(path).radius_arcsec == 7.5


@pytest.mark.parametrize("plain", [True, False])
def test_checksums_of_other_files_are_checked_when_asked(tmp_path, plain):
    header = fits.Header({"BUNIT": "nanomaggy", "PIXSCALE": 0.3, "BAND": "r"})
    path = tmp_path / "x.fits"
    image = np.ones((20, 20), np.float32 if plain else np.float64)
    fits.PrimaryHDU(image, header).writeto(path, checksum=True)
    assert read_cutout(path, verify=True).flux.shape == (1, 20, 20)
    damaged(path, 2890)
    assert read_cutout(path).flux.shape == (1, 20, 20)
    with pytest.raises(CutoutError, match="HDU 0 is not as it was written"):
        read_cutout(path, verify=True)


# ---- no files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("filling", [b" " * 2880, bytes(2880), b" " * 8640, b"\0" * 100, b" " * 5000])
@pytest.mark.parametrize("extensions", [0, 1])
def test_filling_behind_the_last_image_is_nothing(tmp_path, filling, extensions):
    path = tmp_path / "a.fits"
    header = fits.Header({"BUNIT": "nanomaggy", "PIXSCALE": 0.3, "BAND": "r"})
    image = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    images = [fits.PrimaryHDU(), fits.ImageHDU(image, header)] if extensions else [fits.PrimaryHDU(image, header)]
    fits.HDUList(images).writeto(path)
    path.write_bytes(path.read_bytes() + filling)
    assert (read_cutout(path).flux == image).all()


@pytest.mark.parametrize(("magic", "said"), [(b"\x1f\x9d", "compress"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"PK", "zip")])
def test_compressions_that_are_not_read_are_named(tmp_path, magic, said):
    path = tmp_path / "a.fits.Z"
    path.write_bytes(magic + bytes(5000))
    assert cutout_files(tmp_path) == [("a", str(path))]
    with pytest.raises(CutoutError, match=f"{said}.*[Uu]npack it"):
        read_cutout(path)


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.fits")
    (tmp_path / "y.fits").symlink_to("/dev/zero")
    code = """
import sys
from galmorph.images.cutout import read_cutout
from galmorph.images.survey_image import read_planes
for read in (read_cutout, read_planes):
    try:
        read(sys.argv[1])
    except Exception as error:
        print(error)
"""
    for name in ("x.fits", "y.fits"):
        run = subprocess.run(
            [sys.executable, "-c", code, tmp_path / name], capture_output=True, text=True, timeout=100, check=True
        )
        assert "x.fits" not in name or run.stdout.startswith(f"{tmp_path / name}: cannot be read as FITS: it is a pipe")
        assert "pipe or a device" in run.stdout


def test_link_loops_are_a_message(tmp_path):
    (tmp_path / "a.fits").symlink_to("b.fits")
    (tmp_path / "b.fits").symlink_to("a.fits")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    assert [name for name, _ in cutout_files(tmp_path)] == ["a", "b"]
    with pytest.raises(CutoutError, match=r"a\.fits: cannot be read as FITS: Too many levels of symbolic links"):
        read_cutout(tmp_path / "a.fits")
    with pytest.raises(CutoutError, match="no file"):
        read_planes(str(tmp_path / "a.fits"))
