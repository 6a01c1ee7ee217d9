"""Images in FITS files: listed, checked and bounded before memory is taken, then read as native float32.

Two ways lead to the same `StoredImage`. `plain_image` reads the plain form, one primary image of big-endian float32
with nothing scaled and nothing after it: what cutout services send and what galmorph writes. It takes a tenth of the
time. Whatever is unusual, damaged or absurd is not plain and goes through `open_images`, which uses astropy and says
what is wrong.
"""

from __future__ import annotations

import importlib
import io
import logging
import lzma
import math
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CutoutError
from galmorph.files.fits import BLOCK, is_intact, is_intact_image, parse_cards, read_plain_image
from galmorph.files.reading import open_regular

# The largest cutout that a service sends (3000 x 3000 px, four bands of float32) is 144 MB.
MAX_FILE_BYTES = 256 * 2**20
# A survey image: 16,000 px a side in four bands of float32; its planes are held in memory.
MAX_FIELD_BYTES = 4 * 2**30
# A DECam exposure has 63; a file made only of headers must not keep a reader busy.
MAX_HDUS = 200
# A header in which END is missing must not either. The largest in the wild (Hubble, DECam) are below 300 kB.
MAX_HEADER_BYTES = 4 * 2**20

# The card that only cutouts have that galmorph wrote.
OWN_FORM = "PIXNATIV"
# Every keyword that galmorph reads. The rest of the package never sees any other keyword, so the two
# ways of reading cannot differ in what they see.
KEYWORDS = frozenset(
    {"NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTNAME", "IMAGETYP", "PRODTYPE", "SURVEY", "ORIGIN", "TELESCOP", "OBJECT"}
    | {"BANDS", "BAND", "FILTER", "BUNIT", "EXPTIME", "MAGZERO", "MAGZP", "PHOTZP", "ZEROPNT", "ZP", "MAGZPT", "BRICK"}
    | {"SATURATE", "FLUXMAG0", "FPA.ZP", "PHOTFLAM", "PHOTPLAM", "BSOFTEN", "BOFFSET"}
    | {"FLUX20", "SOFTBIAS", "MAGSYS", "PHOTSYS", "ZPSYS"}
    | {"PIXSCAL1", "PIXSCAL2", "SECPIX", "SECPIX1", "SECPIX2", "PLTSCALE", "SCALE"}
    | {OWN_FORM, "PIXSCALE", "RADIUS", "PETROR90", "RUN", "CAMCOL", "NMGY"}
    | {"CTYPE1", "CTYPE2", "CTYPE3", "CUNIT1", "CUNIT2", "CHECKSUM", "DATASUM"}
    | {"CDELT1", "CDELT2", *(f"{matrix}{i}_{j}" for matrix in ("CD", "PC") for i in (1, 2) for j in (1, 2))}
    | {f"PC00{i}00{j}" for i in (1, 2) for j in (1, 2)}
    | {f"BAND{i}" for i in range(10)}
)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "lzma"}
_OTHER_CONTENT = {
    b"<": "is an HTML page, not FITS: a server's answer saved under this name. Fetch it again",
    b"\xff\xd8": "is a JPEG picture, not FITS: pixel values cannot be had from it. Fetch the FITS cutout",
    b"\x89PNG": "is a PNG picture, not FITS: pixel values cannot be had from it. Fetch the FITS cutout",
    b"\x89HDF": "is an HDF5 file, not FITS",
    b"PK": "is a zip archive, not FITS. Unpack it first",
    b"\x1f\x9d": "is compressed by compress (.Z), which is not read. Unpack it, or use gzip",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd, which is not read. Unpack it, or use gzip",
    b"{": "is a JSON text, not FITS: a server's answer saved under this name. Fetch it again",
}
_quiet_lock = threading.RLock()


@dataclass(frozen=True)
class StoredImage:
    """One image of a FITS file, its pixels not necessarily read.

    Attributes
    ----------
    path : str
        The file, for messages.
    index : int
        Number of the HDU, from 0.
    cards : mapping
        The cards named in `KEYWORDS`; where an extension lacks one, the primary header's.
    own_cards : mapping
        The cards of only this HDU's header.
    header_text : str
        The header, 80 characters a card, without END.
    shape : tuple of int
        As numpy has it: (..., y, x).
    load : callable
        Returns the pixels: scaled, BLANK as NaN, float32 in native byte order, C-contiguous.
    """

    path: str
    index: int
    cards: Mapping[str, Any]
    own_cards: Mapping[str, Any]
    header_text: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[np.float32]]

    @property
    def n_planes(self) -> int:
        """How many (y, x) planes it holds."""
        return math.prod(self.shape[:-2])

    @property
    def label(self) -> str:
        """How messages name the HDU: its number, and its EXTNAME where it has one."""
        name = str(self.own_cards.get("EXTNAME", "")).strip()
        return f"HDU {self.index} ({name})" if name else f"HDU {self.index}"


@dataclass(frozen=True)
class FileImages:
    """The images of a FITS file, and what its other HDUs are (``'table'``, ``'empty'``, ``'groups'``) by number."""

    images: list[StoredImage]
    others: dict[int, str]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep astropy's warnings and notes about odd headers off the user's terminal.

    Python's warning filters belong to the process and are not safe to change from two threads, so one at a time.
    """
    with _quiet_lock, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        notes = logging.getLogger("astropy")
        level = notes.level
        notes.setLevel(logging.ERROR)
        try:
            yield
        finally:
            notes.setLevel(level)


def plain_image(
    path: str | Path, max_side_px: float, max_bytes: int | None = None, *, verify: bool = False
) -> StoredImage | None:
    """Read a file of the plain form, pixels included; None for any other file, missing and damaged ones too."""
    plain = read_plain_image(path, KEYWORDS, max_side_px, max_bytes or MAX_FILE_BYTES)
    if plain is None:
        return None
    cards, text, flux = plain
    if (verify or OWN_FORM in cards) and "CHECKSUM" in cards and not is_intact_image(text, flux):
        return None
    return StoredImage(str(path), 0, cards, cards, text, flux.shape, lambda: flux)


@contextmanager
def open_images(path: str | Path, max_bytes: int | None = None, *, verify: bool = False) -> Iterator[FileImages]:
    """Open any FITS file and list its images; their pixels can be loaded inside the ``with`` block.

    Parameters
    ----------
    max_bytes : int, optional
        Of the file, decompressed, and of the pixels of one image; default: `MAX_FILE_BYTES`.
    verify : bool
        Whether the checksums of any file are checked; those of files that galmorph wrote always are.

    Raises
    ------
    CutoutError
        If the file is missing, not FITS, damaged, or absurdly large; when pixels are loaded too.
    """
    from astropy.io import fits

    max_bytes = max_bytes or MAX_FILE_BYTES
    with quiet(), ExitStack() as stack:
        with _damage_as_cutout_errors(path):
            # Opened here, for astropy leaves a damaged file open.
            stream, size = _content(stack.enter_context(io.BufferedReader(open_regular(path))), path, max_bytes)
            second = _check_first_headers(stream, path)
            if second and _is_filling(stream, second):
                stream = io.BytesIO(stream.read(second))
            # Not closed itself: astropy would then read the rest of it.
            hdus = fits.open(stream, mode="readonly", memmap=False, lazy_load_hdus=True)
            content = _list_images(hdus, stream, size, path, max_bytes, verify)
        yield content


@contextmanager
def _damage_as_cutout_errors(path: str | Path) -> Iterator[None]:
    """Turn what reading a file may raise into a CutoutError."""
    try:
        yield
    except CutoutError:
        raise
    except FileNotFoundError as error:
        raise CutoutError(f"{path}: there is no such file.") from error
    except IsADirectoryError as error:
        raise CutoutError(f"{path}: is a folder, not a FITS file.") from error
    except OSError as error:
        raise CutoutError(f"{path}: cannot be read as FITS: {error.strerror or error}.") from error
    except Exception as error:  # on damaged files astropy raises almost anything
        raise CutoutError(f"{path}: is damaged: {type(error).__name__}: {error}. Fetch or copy it again.") from error


def _content(file: BinaryIO, path: str | Path, max_bytes: int) -> tuple[BinaryIO, int]:
    """Return the stream that astropy is to read (decompressed in memory where need be) and its length in bytes."""
    start = file.read(BLOCK)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    module = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    if module is None:
        _check_start(start, size, path, max_bytes)
        return file, size
    try:
        with importlib.import_module(module).open(file) as stream:
            start = stream.read(BLOCK)
            _check_start(start, len(start), path, max_bytes)
            content = start + stream.read(max_bytes + 1 - len(start))
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise CutoutError(
            f"{path}: its {module} compression is damaged or cut short: {error}. Fetch it again."
        ) from error
    _check_start(start, len(content), path, max_bytes)
    return io.BytesIO(content), len(content)


def _check_start(start: bytes, size: int, path: str | Path, max_bytes: int) -> None:
    if not start:
        raise CutoutError(f"{path}: is empty (0 bytes). Fetch or copy it again.")
    if size > max_bytes:
        raise CutoutError(f"{path}: holds more than {max_bytes // 2**20} MiB, {_too_much(max_bytes)}")
    if not start.startswith(b"SIMPLE"):
        stripped = start.lstrip(b"\xef\xbb\xbf \t\r\n")
        why = next((why for magic, why in _OTHER_CONTENT.items() if stripped.startswith(magic)), None)
        raise CutoutError(f"{path}: {why or 'is not a FITS file: it does not begin with SIMPLE'}.")


def _too_much(max_bytes: int) -> str:
    if max_bytes > MAX_FILE_BYTES:
        return "too much for the memory. Cut the survey image into parts that overlap."
    return "too much for a cutout. A survey image is classified with --as field."


def _check_end_of_header(stream: BinaryIO, start: int, path: str | Path) -> None:
    """Refuse a header without END before it is parsed; nothing at all is the end of the file."""
    at = stream.tell()
    stream.seek(start)
    for _ in range(0, MAX_HEADER_BYTES, BLOCK):
        block = stream.read(BLOCK)
        if len(block) < BLOCK or any(block.startswith(b"END     ", card) for card in range(0, BLOCK, 80)):
            stream.seek(at)
            return
    raise CutoutError(
        f"{path}: is damaged: a header has no END within {MAX_HEADER_BYTES // 2**20} MiB. Fetch or copy it again."
    )


def _is_filling(stream: BinaryIO, start: int) -> bool:
    """Return whether there are only blanks or zeros where the next header would be, as some writers leave them."""
    at = stream.tell()
    stream.seek(start)
    block = stream.read(BLOCK)
    stream.seek(at)
    return bool(block) and not block.strip(b" \0")


def _check_first_headers(stream: BinaryIO, path: str | Path) -> int:
    """Check the two headers that astropy parses when it opens a file; return where the second begins, 0: unclear."""
    _check_end_of_header(stream, 0, path)
    header = stream.read(MAX_HEADER_BYTES)
    stream.seek(0)
    end = next((at for at in range(0, len(header), 80) if header.startswith(b"END     ", at)), len(header))
    with suppress(ValueError, KeyError, TypeError):  # astropy says what is wrong with it
        cards = parse_cards(header[:end].decode("latin-1"))
        shape = [cards[f"NAXIS{axis}"] for axis in range(1, cards["NAXIS"] + 1)]
        data = abs(cards["BITPIX"]) // 8 * math.prod(shape) if shape else 0
        if 0 <= data < 2**62:
            second: int = (end // BLOCK + 1 + -(-data // BLOCK)) * BLOCK
            _check_end_of_header(stream, second, path)
            return second
    return 0


def _check_sums(stream: BinaryIO, hdu: Any, path: str | Path, label: str) -> None:
    """Refuse an HDU that is not as its CHECKSUM and DATASUM say."""
    info = hdu.fileinfo()
    at = stream.tell()
    stream.seek(info["hdrLoc"])
    intact = is_intact(stream.read(info["datLoc"] + info["datSpan"] - info["hdrLoc"]))
    stream.seek(at)
    if not intact:
        raise CutoutError(
            f"{path}: {label} is not as it was written: its CHECKSUM does not match. Fetch or copy it again. If it was "
            "edited, write it with checksums (in astropy checksum=True), or without the cards CHECKSUM and DATASUM."
        )


def _list_images(hdus: Any, stream: BinaryIO, size: int, path: str | Path, max_bytes: int, verify: bool) -> FileImages:
    """List the HDUs, whose data must all be inside the file."""
    end = 0
    images: list[StoredImage] = []
    others: dict[int, str] = {}
    primary: dict[str, Any] = {}
    for index in range(MAX_HDUS):
        if index and _is_filling(stream, end):
            break
        _check_end_of_header(stream, end, path)
        try:
            hdu = hdus[index]
        except IndexError:
            break
        own = _cards(hdu.header)
        primary = primary or own
        info = hdu.fileinfo()
        end = info["datLoc"] + info["datSpan"]
        # Some writers forget the padding of the last block; anything else that is missing was lost.
        if end > size and not (type(hdu).__name__ in ("PrimaryHDU", "ImageHDU") and info["datLoc"] + hdu.size == size):
            raise CutoutError(
                f"{path}: is truncated or damaged: it has {size} bytes and its header promises {end}. Fetch or copy it "
                "again."
            )
        if "CHECKSUM" in own and (verify or OWN_FORM in primary):
            _check_sums(stream, hdu, path, f"HDU {index}")
        if type(hdu).__name__ == "GroupsHDU":
            others[index] = "groups"
        elif not hdu.is_image:
            others[index] = "table"
        elif not hdu.shape or 0 in hdu.shape:
            others[index] = "empty"
        else:
            text = hdu.header.tostring(sep="", endcard=False, padding=False)
            load = partial(_pixels, hdu, path, max_bytes)
            images.append(StoredImage(str(path), index, primary | own, own, text, tuple(hdu.shape), load))
    return FileImages(images, others)


def _cards(header: Any) -> dict[str, Any]:
    """Return the cards named in `KEYWORDS`, less those without a value or with one that cannot be parsed."""
    from astropy.io.fits import VerifyError
    from astropy.io.fits.card import Undefined

    cards = {}
    for keyword in KEYWORDS.intersection(header):
        with suppress(VerifyError):
            if not isinstance(value := header[keyword], Undefined):
                cards[keyword] = value
    return cards


def _pixels(hdu: Any, path: str | Path, max_bytes: int) -> NDArray[np.float32]:
    n_bytes = 4 * math.prod(hdu.shape)
    if n_bytes > max_bytes:  # a compressed file can promise any number
        raise CutoutError(
            f"{path}: its image of shape {hdu.shape} takes {n_bytes // 2**20} MiB, {_too_much(max_bytes)}"
        )
    with _damage_as_cutout_errors(path):
        return np.ascontiguousarray(hdu.data, dtype=np.float32)
