"""Pictures: JPEG, PNG, WebP and TIFF, but no other format of the image library.

Others are not needed, and some of them (PostScript) start another program.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CutoutError
from galmorph.files.reading import open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
# 192 MB as RGB. A picture of a galaxy has a hundredth of it; a file of a few kilobytes can claim any number.
MOST_PIXELS = 64_000_000
# Quality of the files that are written.
JPEG_QUALITY = 88
# Names of pictures; among cutouts, WebP and TIFF are usually something else.
SUFFIXES = (".jpg", ".jpeg", ".png")


def is_picture(path: str | Path) -> bool:
    """Return whether a file is named like a picture (JPEG or PNG)."""
    return Path(path).suffix.lower() in SUFFIXES


def read_picture(source: Path | bytes, *, name: str = "", most_pixels: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """Return a picture, uint8 (y, x, 3).

    Parameters
    ----------
    source : Path or bytes
        A file, or its content.
    name : str
        Name of the picture for messages; default the path.
    most_pixels : int
        A larger picture is refused before its pixels are read.

    Raises
    ------
    CutoutError
        If it has another format, is too large or damaged.
    OSError
        If the file cannot be opened.
    """
    from PIL import Image

    name = name or str(source if isinstance(source, Path) else "picture")
    with io.BytesIO(source) if isinstance(source, bytes) else io.BufferedReader(open_regular(source)) as stream:
        try:
            with Image.open(stream, formats=FORMATS) as image:
                width, height = image.size
                if width * height > most_pixels:
                    raise CutoutError(f"{name} has {width} x {height} pixels; {most_pixels} are read at most.")
                return np.asarray(image.convert("RGB"))
        except CutoutError:
            raise
        except Exception as error:  # the library's readers raise errors of any kind
            raise CutoutError(f"{name} is not a whole picture (JPEG, PNG, WebP or TIFF): {error}.") from error


def jpeg(rgb: NDArray[np.floating[Any]] | NDArray[np.uint8], side: int | None = None) -> bytes:
    """Return a picture as a JPEG file.

    Parameters
    ----------
    rgb : ndarray, shape (y, x, 3)
        uint8, or floats in 0..1; the first row on top.
    side : int, optional
        Shrink it to this many pixels a side.
    """
    from PIL import Image

    pixels = rgb if rgb.dtype == np.uint8 else (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    image = Image.fromarray(pixels)
    if side is not None:
        image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "jpeg", quality=JPEG_QUALITY)
    return file.getvalue()
