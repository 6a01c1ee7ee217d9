"""Cutout: the pixels of one galaxy in a few bands, read from FITS files and written in one form.

What a file must say to be a cutout, and where it may say it:

- **bands**: a cube in ``BANDS`` (``'grz'``) or ``BAND0``, ``BAND1``, ...; an image in ``BAND``, ``FILTER``, an EXTNAME
  of one letter, or a file name that ends in one (``ngc1_r.fits``). A cube that names no bands is refused.
- **survey**: ``SURVEY``, or the cards of an SDSS frame; otherwise it is unknown (``''``).
- **flux**: ``BUNIT`` (`galmorph.images.units`). Counts, where a zero point says how bright one is (``MAGZERO`` and
  others, AB): they become nanomaggies less the median of the border, since counts hold the sky too.
  No ``BUNIT``: nanomaggies where the survey is known or ``BANDS`` is given, since the Legacy Surveys and SDSS write
  none. Anything else is refused.
- **pixels**: the celestial WCS, or ``PIXSCALE`` (arcsec). ``PIXNATIV``: the native pixel that the flux is per.
- **radius**: ``RADIUS`` or ``PETROR90`` (arcsec).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from galmorph.environment import now
from galmorph.errors import CutoutError
from galmorph.files.fits import card, image
from galmorph.files.pictures import is_picture
from galmorph.files.writing import write_file
from galmorph.images.fits_file import OWN_FORM, FileImages, StoredImage, open_images, plain_image, quiet
from galmorph.images.hdus import choose_pictures
from galmorph.images.headers import (
    SUFFIX,
    band,
    band_files,
    band_template,
    cube_bands,
    flux_pixscale,
    kind,
    pixel_scale,
    radius,
    split_band,
    survey,
)
from galmorph.images.sizes import MAX_SIDE_PX
from galmorph.images.units import make_linear, nanomaggies
from galmorph.images.wcs import read_wcs, same_grid, sky

# A FITS image with a longer side is a survey image, in which `galmorph classify` detects galaxies.
FIELD_SIDE_PX = 1024
# Bits of the Legacy Surveys' MASKBITS that make a pixel bad: SATUR_G, R, Z (2-4), ALLMASK_G, R, Z (5-7), SATUR_I (14),
# ALLMASK_I (15). The others mark neighbours (BRIGHT, MEDIUM) and the galaxy itself (GALAXY).
# https://www.legacysurvey.org/dr10/bitmasks/
_BAD_BITS = 0b1100_0000_1111_1100
_ALLMASK = 0b1110_0000
# The cards of a celestial WCS, with the distortions that astropy supports (SIP, TPV), and those that name the origin.
_COPIED_KEYWORDS = re.compile(
    r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d+|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
    r"|LONPOLE|LATPOLE|RADESYS|EQUINOX|RELEASE|URL"
)
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


@dataclass(frozen=True, eq=False)
class Cutout:
    """The pixels of one galaxy, which is at the centre, in a few bands.

    Attributes
    ----------
    target_id : str
        The galaxy's identifier; for a file that galmorph did not write, the file's name without its suffix.
    survey : str
        Name of the survey (``'decals'``, ``'sdss'``), ``''`` where the file does not say.
    bands : tuple of str
        One name for each plane of `flux`.
    flux : ndarray
        float32 (band, y, x), C-contiguous, native byte order: nanomaggies (AB, zero point 22.5) per native pixel.
    flux_pixscale : float
        Side in arcsec of the native pixel that `flux` is per. Services that resample keep surface brightness, so the
        galaxy's flux is ``flux.sum() * (pixscale / flux_pixscale) ** 2``.
    pixscale : float
        Side in arcsec of a pixel of this grid.
    mask : ndarray or None
        bool (y, x), True where a pixel is bad; None if there is no mask.
    radius_arcsec : float
        The galaxy's radius as the file has it, NaN where it does not.
    header_text : str
        The header it came with, 80 characters a card.
    """

    target_id: str
    survey: str
    bands: tuple[str, ...]
    flux: NDArray[np.float32] = field(repr=False)
    flux_pixscale: float
    pixscale: float
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)
    radius_arcsec: float = math.nan
    header_text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.flux.ndim != 3 or len(self.bands) != len(self.flux):
            raise CutoutError(
                f"cutout {self.target_id!r}: flux of shape {self.flux.shape} is not one plane for each of {self.bands}."
            )

    @cached_property
    def header(self) -> Any:
        """The header as an astropy Header, parsed on first use. It describes the file, not `flux`."""
        from astropy.io import fits

        with quiet():
            return fits.Header.fromstring(self.header_text)

    @property
    def wcs(self) -> Any:
        """The celestial WCS (2 axes) as an astropy WCS, made on first use; None if there is none."""
        return self._wcs[0]

    @property
    def wcs_problem(self) -> str:
        """Why the celestial coordinates in the header cannot be used; ``''`` where they can, or there are none."""
        return self._wcs[1]

    @property
    def centre(self) -> tuple[float, float]:
        """Right ascension and declination (ICRS degrees) of the centre; NaN where there is no WCS."""
        if self.wcs is None:
            return math.nan, math.nan
        ra, dec = sky(self.wcs, *((side - 1) / 2 for side in self.flux.shape[:0:-1]))
        return float(ra), float(dec)

    @cached_property
    def _wcs(self) -> tuple[Any, str]:
        return read_wcs(self.header_text)

    def plane(self, band: str) -> NDArray[np.float32]:
        """Return the flux in one band (y, x), a view."""
        return self.flux[self.bands.index(band)]


def read_cutout(
    path: str | os.PathLike[str],
    *,
    hdu: int | str | None = None,
    max_side_px: int = FIELD_SIDE_PX,
    verify: bool = False,
) -> Cutout:
    """Read a cutout from a FITS file, or from one file a band.

    Parameters
    ----------
    path : path
        The file: plain, tile-compressed, or compressed with gzip, bzip2 or xz. A path that holds the literal ``{band}``
        (``'ngc1-{band}.fits'``) stands for one file a band; all that exist are read.
    hdu : int or str, optional
        Number or EXTNAME of the HDU to use, where the file holds several images.
    max_side_px : int
        A larger image is taken for a survey image and refused; what galmorph wrote may have up to `MAX_SIDE_PX`.
    verify : bool
        Whether the checksums of any file are checked; those of files that galmorph wrote always are.

    Raises
    ------
    CutoutError
        If the file is not a usable cutout. The message names it, says why, and what to do.
    """
    path = os.fspath(path)
    if "{band}" in path:
        return _read_band_files(path, hdu, max_side_px, verify)
    image = plain_image(path, MAX_SIDE_PX, verify=verify) if hdu is None else None
    if image is not None:
        return _cutout(choose_pictures(path, FileImages([image], {})), None, max_side_px)
    with open_images(path, verify=verify) as content:
        pictures = choose_pictures(path, content, hdu)
        shape = pictures[0].shape[-2:]
        maskbits = next((image for image in content.images if kind(image) == "maskbits" and image.shape == shape), None)
        return _cutout(pictures, maskbits, max_side_px)


def _cutout(pictures: list[StoredImage], maskbits: StoredImage | None, max_side_px: int) -> Cutout:
    """Check the headers, then read the pixels."""
    first = pictures[0]
    own_form = OWN_FORM in first.cards
    side = max(first.shape[-2:])
    if side > (MAX_SIDE_PX if own_form else max_side_px):
        raise CutoutError(
            f"{first.path}: is {side} px wide, a survey image and not a cutout (at most {max_side_px} px). Galaxies "
            "are found in it with --as field."
        )
    bands = cube_bands(first) if first.n_planes > 1 else tuple(band(image) for image in pictures)
    units = [nanomaggies(image) for image in pictures]
    pixscale = pixel_scale(first)
    planes = [_flux(image, *unit) for image, unit in zip(pictures, units, strict=True)]
    mask = None
    if maskbits is not None:
        mask = bad_pixels(maskbits.load())
    return Cutout(
        target_id=unquote(str(first.cards.get("OBJECT", ""))) if own_form else SUFFIX.sub("", Path(first.path).name),
        survey=survey(first),
        bands=bands,
        flux=planes[0] if len(planes) == 1 else np.concatenate(planes),
        flux_pixscale=flux_pixscale(first),
        pixscale=pixscale,
        mask=mask,
        radius_arcsec=radius(first),
        header_text=first.header_text,
    )


def bad_pixels(maskbits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels are bad in the Legacy Surveys' MASKBITS: saturated, or masked in all exposures of a band."""
    return (maskbits.astype(np.int64) & _BAD_BITS) != 0


@np.errstate(over="ignore", invalid="ignore")
def _flux(image: StoredImage, factor: float, counts: bool) -> NDArray[np.float32]:
    """Return the pixels in nanomaggies, (plane, y, x)."""
    flux = make_linear(image, image.load().reshape(-1, *image.shape[-2:]))
    if factor != 1:
        flux *= np.float32(factor)
    if counts:
        for plane in flux:
            edge = border(plane)
            edge = edge[np.isfinite(edge)]
            plane -= np.median(edge) if edge.size else np.float32(0)
    return flux


def border(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels of a plane (y, x) within a sixteenth of its sides from the edge, flat: mostly sky."""
    height, width = (max(1, n // 16) for n in plane.shape)
    middle = plane[height:-height]
    sides = (plane[:height], plane[-height:], middle[:, :width], middle[:, -width:])
    return np.concatenate([side.ravel() for side in sides])


def _read_band_files(template: str, hdu: int | str | None, max_side_px: int, verify: bool) -> Cutout:
    """Read one file a band. The file's name gives the band, because copied headers often name another."""
    paths = band_files(template)
    cutouts = {path: read_cutout(path, hdu=hdu, max_side_px=max_side_px, verify=verify) for path in paths.values()}
    (first_path, first), *others = cutouts.items()
    for path, cutout in cutouts.items():
        if len(cutout.bands) > 1:
            raise CutoutError(f"{path}: holds {len(cutout.bands)} bands. With {{band}} in the path a file holds one.")
    for path, cutout in others:
        shape = first.flux.shape
        if cutout.flux.shape != shape or not same_grid(first.header_text, cutout.header_text, shape):
            raise CutoutError(f"{path}: is on another grid than {first_path}. Resample the bands to one grid.")
        if (cutout.survey, cutout.flux_pixscale) != (first.survey, first.flux_pixscale):
            raise CutoutError(f"{path}: is of another survey than {first_path}.")
    masks = [cutout.mask for cutout in cutouts.values() if cutout.mask is not None]
    radii = [cutout.radius_arcsec for cutout in cutouts.values() if math.isfinite(cutout.radius_arcsec)]
    return replace(
        first,
        target_id=split_band(Path(template).name)[0],
        bands=tuple(paths),
        flux=np.concatenate([cutout.flux for cutout in cutouts.values()]),
        mask=np.logical_or.reduce(masks) if masks else None,
        radius_arcsec=radii[0] if radii else math.nan,
    )


def write_cutout(cutout: Cutout, path: str | os.PathLike[str], *, cards: Iterable[tuple[str, Any, str]] = ()) -> None:
    """Write a cutout in galmorph's own form, whole or not at all; `read_cutout` reads it back.

    The primary HDU is a float32 cube (band, y, x); a mask goes into the extension ``MASKBITS``. The cards are
    ``SURVEY``, ``BANDS``, ``BAND0``..., ``BUNIT``, ``PIXNATIV``, ``OBJECT``, ``RADIUS``, the celestial WCS of
    ``cutout.header`` and its ``RELEASE`` and ``URL``, then `cards`, ``DATE``, ``CHECKSUM`` and ``DATASUM``.

    Parameters
    ----------
    cutout : Cutout
        What to write.
    path : path
        Where; an existing file is replaced.
    cards : iterable of (keyword, value, comment)
        Further cards, such as ``("RELEASE", "DR9", "data release")``. Keep secrets out of a ``URL``.

    Raises
    ------
    OutputError
        If it cannot be written.
    CannotContinue
        If the disk is full.
    """
    write_file(Path(path), *cutout_chunks(cutout, cards=cards))


def cutout_chunks(cutout: Cutout, *, cards: Iterable[tuple[str, Any, str]] = ()) -> list[bytes | memoryview]:
    """Return the content of `write_cutout`'s file, as chunks of bytes; big-endian pixels are not copied.

    Parameters
    ----------
    cards : iterable of (keyword, value, comment)
    """
    date = now().strftime("%Y-%m-%dT%H:%M:%S")
    separator = "" if all(len(name) == 1 for name in cutout.bands) else ","
    own: list[tuple[str, Any, str]] = [
        ("SURVEY", cutout.survey, "survey"),
        ("BANDS", separator.join(cutout.bands), "one plane each, in this order"),
        *((f"BAND{number}", name, "") for number, name in enumerate(cutout.bands)),
        ("BUNIT", "nanomaggy", "AB, zero point 22.5, per native pixel"),
        ("PIXNATIV", cutout.flux_pixscale, "[arcsec] native pixel that the flux is per"),
        # Quoted, because FITS text is ASCII and loses blanks at its end.
        ("OBJECT", quote(cutout.target_id, safe=_PRINTABLE), "target"),
    ]
    if math.isfinite(cutout.radius_arcsec):
        own.append(("RADIUS", cutout.radius_arcsec, "[arcsec] the galaxy's radius"))
    texts = {keyword: card(keyword, value, comment) for keyword, value, comment in own}
    # Unchanged cards: a number that is formatted again may lose its last digit.
    texts |= _copied_cards(cutout.header_text)
    texts["PIXSCALE"] = card("PIXSCALE", cutout.pixscale, "[arcsec] pixel of this grid")
    texts |= {keyword: card(keyword, value, comment) for keyword, value, comment in cards}
    texts["DATE"] = card("DATE", date, "when this file was written (UTC)")
    if any(len(text) > 80 for text in texts.values()):
        texts["LONGSTRN"] = card("LONGSTRN", "OGIP 1.0", "long text goes on in CONTINUE cards")
    chunks: list[bytes | memoryview] = [*image("".join(texts.values()), cutout.flux, when=date)]
    if cutout.mask is not None:
        bits = np.where(cutout.mask, _ALLMASK, 0).astype(np.int16)
        chunks += image("", bits, extension="MASKBITS", when=date)
    return chunks


def _copied_cards(header_text: str) -> dict[str, str]:
    """Return the unchanged cards of `_COPIED_KEYWORDS`, with the CONTINUE cards of long ones."""
    copied: dict[str, str] = {}
    keyword = ""
    for start in range(0, len(header_text), 80):
        text = header_text[start : start + 80].ljust(80)
        if not text.startswith("CONTINUE"):
            keyword = text[:8].strip()
        if _COPIED_KEYWORDS.fullmatch(keyword):
            copied[keyword] = copied.get(keyword, "") + text
    return copied


def cutout_files(folder: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """List the cutouts of a folder and its subfolders by their names; no file is opened.

    Files whose names differ only in a last ``_g``, ``-g`` or ``.g`` (any of ``ugrizy``) are the bands of one cutout.
    Hidden files and folders, files still being written (``.part``) and everything without a FITS suffix are left out;
    of a folder without FITS files the pictures (JPEG, PNG) are the cutouts.

    Returns
    -------
    list of (str, str)
        Sorted (id, path). The id is the path within the folder without suffix and band; the path of a set of bands
        holds ``{band}``, as `read_cutout` takes it.

    Raises
    ------
    CutoutError
        If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CutoutError(f"{root}: there is no such folder.")
    paths: list[str] = []
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [(Path(parent) / name).relative_to(root).as_posix() for name in files]
    return sorted((name, str(root / path)) for name, path in named_cutouts(paths))


def named_cutouts(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return the (id, path) of `cutout_files` from the paths of files in a folder, sorted."""
    sets: dict[str, list[str]] = {}
    pictures: list[tuple[str, str]] = []
    for path in paths:
        name = path.rpartition("/")[2]
        if name.startswith("."):
            continue
        if SUFFIX.search(name):
            sets.setdefault(band_template(path), []).append(path)
        elif is_picture(name):
            pictures.append((path.rpartition(".")[0], path))
    cutouts = [
        (split_band(template)[0], template) if len(names) > 1 else (SUFFIX.sub("", names[0]), names[0])
        for template, names in sets.items()
    ]
    return sorted(cutouts or pictures)
