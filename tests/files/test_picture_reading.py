"""Pictures: four formats, bounded, and no other way to open one."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import galmorph
from galmorph.errors import CutoutError
from galmorph.files.pictures import FORMATS, read_picture

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 9 9 rectfill showpage\n"


def encoded(kind, side=9):
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(out, kind)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + min(width, 8)) * min(height, 8))))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_four_formats(tmp_path, kind):
    (tmp_path / "a").write_bytes(encoded(kind))
    for picture in (read_picture(encoded(kind)), read_picture(tmp_path / "a")):
        assert (picture.shape, picture.dtype) == ((9, 9, 3), np.uint8)
        assert abs(int(picture.mean()) - 200) < 3


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "ICO", "TGA", "PCX", "EPS"])
def test_no_other_format(kind):
    """EPS is read by a program that the file itself instructs."""
    with pytest.raises(CutoutError, match="not a whole picture"):
        read_picture(EPS if kind == "EPS" else encoded(kind))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        encoded("PNG")[:45],
        png(8, 8)[:40],
        png(0, 8),
        # What the text unpacks to is bounded by the library.
        png(8, 8, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000)))]),
        b"II*\0\x08\0\0\0\xff\xff" + bytes(range(200)),
        b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(100),
    ],
    ids=["empty", "html", "cut", "no pixels", "no width", "text", "tiff", "webp"],
)
def test_damaged_pictures(content):
    with pytest.raises(CutoutError, match="not a whole picture"):
        read_picture(content, name="it")


@pytest.mark.parametrize("side", [9_000, 13_000, 30_000])
def test_the_number_of_pixels_is_bounded_before_they_are_unpacked(side):
    with pytest.raises(CutoutError):
        read_picture(png(side, side))
    with pytest.raises(CutoutError, match="9 x 9 pixels; 80 are read at most"):
        read_picture(encoded("PNG"), most_pixels=80)


def test_no_module_opens_pictures_by_itself():
    package = Path(galmorph.__file__).parent
    openers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\bImage\.open\(|imread\(|ImageFile\b", path.read_text())
    }
    assert openers == {"files/pictures.py"}
