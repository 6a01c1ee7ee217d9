"""What the header of an image says of a galaxy's cutout: kind, survey, bands, flux unit, pixel scale, radius.

Every function takes a `StoredImage`. Where its header says something that galmorph must not guess at, a CutoutError
names the file. The rules are listed in `galmorph.images.cutout`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePath

from galmorph.errors import CutoutError
from galmorph.images.fits_file import StoredImage
from galmorph.images.surveys import native_pixscale, survey_of

BAND_LETTERS = "ugrizy"
# Suffixes of FITS files, compressed or not.
SUFFIX = re.compile(r"\.(fits?|fts)(\.(fz|gz|bz2|xz))?$|\.fz$", re.IGNORECASE)
_BAND_AT_END = re.compile(rf"(.*[^/])[_.-]([{BAND_LETTERS}]|\{{band\}})")

# Words in IMAGETYP, EXTNAME or PRODTYPE of images that go with a picture of the sky and are none.
_COMPANIONS = frozenset(
    {"invvar", "ivar", "weight", "wht", "rms", "err", "error", "sigma", "variance", "nexp", "depth", "psf", "sky"}
    | {"mask", "maskbits", "dqmask", "dq", "flags", "bkg", "background", "segm", "segmentation", "segmap"}
)
# Filters of the Legacy Surveys' northern telescopes (Bok, Mayall) whose names do not hold the letter as a word.
_FILTER_BANDS = {"bokr": "r", "zd": "z"}
_SPECTRAL = ("FREQ", "WAVE", "AWAV", "WAVN", "LAMBDA", "VELO", "VRAD", "VOPT", "FELO", "ZOPT", "BETA", "ENER", "STOKES")
_CELESTIAL = ("RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT")
_ARCSEC = {"": 3600.0, "deg": 3600.0, "degree": 3600.0, "arcmin": 60.0, "arcsec": 1.0, "rad": 648000 / math.pi}

# Nanomaggies of one unit of BUNIT (lower case, without blanks). One nanomaggy is 3.631 microjansky.
_NANOMAGGIES = {
    **dict.fromkeys(("nanomaggy", "nanomaggies", "nmgy", "nmaggy"), 1.0),
    **dict.fromkeys(("maggy", "maggies", "mgy"), 1e9),
    "jy": 1e9 / 3631,
    "mjy": 1e6 / 3631,
    "ujy": 1e3 / 3631,
    "njy": 1 / 3631,
}
_COUNTS = frozenset({"adu", "dn", "dns", "count", "counts", "ct", "cts", "electron", "electrons", "e", "e-"})
_PER_SECOND = re.compile(r"(.+?)(?:/s|/sec|/second|\.?s\^?-1)")
# Cards with the AB magnitude of a pixel value of 1, in the order in which they are looked for. MAGZPT is that of one
# count *per second* (NOIRLab's community pipeline, WFCAM), so it needs EXPTIME where the pixels are counts.
_ZERO_POINTS = ("MAGZERO", "MAGZP", "PHOTZP", "ZEROPNT", "ZP")
# Zero points outside are placeholders (0, 99).
_ZERO_POINT_RANGE = (10.0, 40.0)
# arcsec per pixel; outside, a card is missing or wrong (a matrix without CDELT has pixels of a degree).
_PIXSCALE_RANGE = (1e-3, 60.0)
# One number stands for both sides of a pixel. Cameras are within 1e-3; 5 % would show as an axis ratio of 0.95.
_MAX_SIDE_RATIO = 1.05


def number(image: StoredImage, keyword: str, default: float = math.nan) -> float:
    """Return the value of a card as a float; the default where it is absent or not a number."""
    value = image.cards.get(keyword)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def kind(image: StoredImage) -> str:
    """Return what goes with a picture of the sky (``'invvar'``, ``'psf'``, ...); ``''`` for the picture itself."""
    # IMAGETYP and PRODTYPE hold for the whole file where the primary header has them; EXTNAME does not.
    texts = (image.own_cards.get("EXTNAME", ""), image.cards.get("IMAGETYP", ""), image.cards.get("PRODTYPE", ""))
    words = re.findall("[a-z]+", " ".join(map(str, texts)).lower())
    return next((word for word in words if word in _COMPANIONS), "")


def survey(image: StoredImage) -> str:
    """Return the survey's name, ``''`` where the header does not say or it is none that galmorph knows."""
    cards = image.cards
    return str(cards.get("SURVEY", "")).strip() if "PIXNATIV" in cards else survey_of(cards)


def band(image: StoredImage) -> str:
    """Return the band of an image of one plane, ``''`` where nothing says it."""
    own, cards = image.own_cards, image.cards
    if "BAND" not in own and ("BANDS" in own or "BAND0" in own):
        return cube_bands(image)[0]
    extname = str(own.get("EXTNAME", "")).strip().lower()
    letter = extname if extname in tuple(BAND_LETTERS) else ""
    for text in (own.get("BAND"), own.get("FILTER"), letter, cards.get("BAND"), cards.get("FILTER")):
        if text is not None and str(text).strip():
            return _band_name(str(text))
    return split_band(PurePath(image.path).name)[1]


def _band_name(text: str) -> str:
    """Return the one letter in ``'g DECam SDSS c0001 4720.0 1520.0'``; a text without one (``'F105W'``) as it is.

    Upper case is another photometric system: Johnson's R is not SDSS's r.
    """
    words = re.findall(r"[A-Za-z0-9]+", text)
    letters = {_FILTER_BANDS.get(word, word) for word in words} & set(BAND_LETTERS)
    return letters.pop() if len(letters) == 1 else text.strip()


def split_band(name: str) -> tuple[str, str]:
    """Split a file's name, less its suffix, before the band it ends in: ``'ngc1_r.fits.fz'`` is ``('ngc1', 'r')``.

    The band is ``''`` where there is none; ``{band}`` counts as one.
    """
    stem = SUFFIX.sub("", name)
    match = _BAND_AT_END.fullmatch(stem)
    return (match[1], match[2]) if match else (stem, "")


def band_template(name: str) -> str:
    """Return a file's name with ``{band}`` for the band that it ends in; as it is where there is none."""
    stem, letter = split_band(name)
    start = len(stem) + 1
    return f"{name[:start]}{{band}}{name[start + len(letter) :]}" if letter else name


def band_files(template: str) -> dict[str, str]:
    """Return the files that a path with ``{band}`` stands for, by band: all that exist.

    Raises
    ------
    CutoutError
        If there are none.
    """
    files = {letter: template.replace("{band}", letter) for letter in BAND_LETTERS}
    found = {letter: file for letter, file in files.items() if Path(file).is_file()}
    if not found:
        raise CutoutError(f"{template}: there is no such file for any of the bands {', '.join(BAND_LETTERS)}.")
    return found


def cube_bands(image: StoredImage) -> tuple[str, ...]:
    """Return the names of the planes from ``BANDS`` and ``BAND0``, ``BAND1``, ..., which must not disagree."""
    cards = image.cards
    if str(cards.get("CTYPE3", "")).upper().startswith(_SPECTRAL) and image.n_planes > 1:
        raise CutoutError(
            f"{image.path}: is a spectral cube (CTYPE3 is {cards['CTYPE3']!r}), not an image in a few bands. Make one "
            "image a band of it."
        )
    joined = str(cards.get("BANDS", "")).strip()
    separated = joined.split(",") if "," in joined or image.n_planes == 1 else joined
    by_letter = tuple(part.strip() for part in separated) if joined else ()
    by_number = tuple(str(cards[keyword]).strip() for keyword in sorted(cards) if re.fullmatch(r"BAND\d", keyword))
    named = {names for names in (by_letter, by_number) if names}
    if not named:
        raise CutoutError(
            f"{image.path}: is a cube of {image.n_planes} planes whose header does not name the bands. Add a card "
            "BANDS, for example BANDS='grz' for three planes."
        )
    names = named.pop()
    if named or len(names) != image.n_planes or len(set(names)) < len(names):
        raise CutoutError(
            f"{image.path}: the cards BANDS={joined!r} and BAND0...={','.join(by_number)!r} do not name each of its "
            f"{image.n_planes} planes once. Correct them."
        )
    return names


def nanomaggies(image: StoredImage) -> tuple[float, bool]:
    """Return the factor from pixel values to nanomaggies, and whether they are counts, which hold the sky too."""
    cards = image.cards
    unit = re.sub(r"\s", "", str(cards.get("BUNIT", ""))).lower()
    if unit in _NANOMAGGIES:
        return _NANOMAGGIES[unit], False
    if not unit and ("BANDS" in cards or survey(image)):
        return 1.0, False
    per_second = _PER_SECOND.fullmatch(unit)
    if not unit or (per_second[1] if per_second else unit) in _COUNTS:
        zero_point = next((value for key in _ZERO_POINTS if math.isfinite(value := number(image, key))), math.nan)
        if math.isnan(zero_point) and unit:
            seconds = 1.0 if per_second else number(image, "EXPTIME")
            zero_point = number(image, "MAGZPT") + (2.5 * math.log10(seconds) if seconds > 0 else math.nan)
        if _ZERO_POINT_RANGE[0] < zero_point < _ZERO_POINT_RANGE[1]:
            return 10 ** (0.4 * (22.5 - zero_point)), True
    what = f"has pixels in {cards['BUNIT']!r}" if unit else "does not say the unit of its pixels (BUNIT)"
    raise CutoutError(
        f"{image.path}: {what}, and no card from which nanomaggies follow. Add MAGZERO, the AB magnitude of a pixel "
        "value of 1, or BUNIT='nanomaggy' if it is in that unit; for a survey image --zero-point says the same."
    )


def pixel_scale(image: StoredImage) -> float:
    """Return arcsec per pixel: the root of the area of a pixel, so turned and flipped images are right."""
    if str(image.cards.get("CTYPE1", "")).upper().startswith(_CELESTIAL):
        scale = _celestial_scale(image)
    else:
        scale = number(image, "PIXSCALE")
        if math.isnan(scale):
            raise CutoutError(
                f"{image.path}: has no celestial coordinates, so its size on the sky is not known. Add a card "
                "PIXSCALE, the arcsec per pixel."
            )
    if not _PIXSCALE_RANGE[0] < scale < _PIXSCALE_RANGE[1]:
        raise CutoutError(
            f"{image.path}: its header says {scale:.4g} arcsec per pixel, which no image of a galaxy has. Correct the "
            "CD or CDELT cards."
        )
    return scale


def _celestial_scale(image: StoredImage) -> float:
    prefix = "CD" if any(f"CD{i}_{j}" in image.cards for i in "12" for j in "12") else "PC"
    a, b, c, d = (number(image, f"{prefix}{i}_{j}", float(prefix == "PC" and i == j)) for i in (1, 2) for j in (1, 2))
    if prefix == "PC":
        x, y = number(image, "CDELT1", 1.0), number(image, "CDELT2", 1.0)
        a, b, c, d = a * x, b * x, c * y, d * y
    width, height = math.hypot(a, c), math.hypot(b, d)
    if max(width, height) > _MAX_SIDE_RATIO * min(width, height) > 0:
        raise CutoutError(f"{image.path}: its pixels are not square ({width / height:.3g} to 1). Resample it.")
    return _ARCSEC.get(str(image.cards.get("CUNIT1", "")).strip().lower(), math.nan) * math.sqrt(abs(a * d - b * c))


def flux_pixscale(image: StoredImage) -> float:
    """Return arcsec per native pixel, which the flux is per: ``PIXNATIV``, the survey's, else that of the image."""
    native = number(image, "PIXNATIV")
    if 0 < native < math.inf:
        return native
    native = native_pixscale(survey(image))
    return pixel_scale(image) if math.isnan(native) else native


def radius(image: StoredImage) -> float:
    """Return the galaxy's radius in arcsec from ``RADIUS`` or ``PETROR90``, NaN where there is none."""
    values = (number(image, "RADIUS"), number(image, "PETROR90"))
    return next((value for value in values if 0 < value < math.inf), math.nan)
