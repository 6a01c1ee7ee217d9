"""What to read from a cutout's header: kind, survey, bands, flux unit, pixel scale, radius.

Every function takes a `StoredImage`. Where its header says something that galmorph must not guess at, a CutoutError
names the file. The rules are listed in `galmorph.images.cutout`.
"""

from __future__ import annotations

import logging
import math
import re
from functools import cache
from pathlib import Path, PurePath

from galmorph.errors import CutoutError
from galmorph.images.fits_file import OWN_FORM, StoredImage
from galmorph.images.surveys import native_pixscale, survey_of
from galmorph.images.wcs import CELESTIAL, arcsec_of, repaired_ctypes

log = logging.getLogger(__name__)

BAND_LETTERS = "ugrizy"
# Suffixes of FITS files, compressed or not; those of compressions that are not read, which the reader says.
SUFFIX = re.compile(r"\.(fits?|fts)(\.(fz|gz|bz2|xz|z|zst|zip))?$|\.fz$", re.IGNORECASE)
UNREAD_COMPRESSIONS = (".z", ".zst", ".zip")
_BAND_AT_END = re.compile(rf"(.*[^/])[_.-]([{BAND_LETTERS}]|\{{band\}})")

# Words in EXTNAME, IMAGETYP or PRODTYPE of images that go with a picture of the sky and are none.
_COMPANIONS = frozenset(
    {"invvar", "ivar", "weight", "wht", "wgt", "rms", "err", "error", "sigma", "variance", "var", "unc", "uncertainty"}
    | {"std", "stdev", "noise", "nexp", "depth", "psf", "sky", "bkg", "background", "segm", "segmentation", "segmap"}
    | {"mask", "maskbits", "msk", "bpm", "dqmask", "dq", "flags", "flag", "flg", "ctx"}
)
# Such words in EXTNAME only; in IMAGETYP they mean something else ('science exposure').
_COMPANION_EXTENSIONS = frozenset(
    {"con", "cov", "coverage", "exp", "exptime", "expmap", "exposure", "time", "samp", "area", "model", "models"}
    | {"residual", "resid", "residuals", "seg", "back", "bkgd", "bkgrms", "snr", "chi", "objmask"}
)
# Such words at the end of a file's name, where the header says nothing: SWarp's ``coadd.weight.fits``.
_COMPANION_FILE = re.compile(
    r".+[._-](weights?|wht|wgt|invvar|ivar|rms|variance|error|err|uncertainty|unc|mask|maskbits|bpm|dq|segmentation|segmap|segm"
    r"|psf|nexp)",
    re.IGNORECASE,
)
# An image from which a background was subtracted ('SKY_SUB', 'BKG_SUBTRACTED') is a picture.
_BACKGROUNDS = frozenset({"sky", "bkg", "background"})
_SUBTRACTED = frozenset({"sub", "subtr", "subtracted", "removed"})
# Filters of the Legacy Surveys' northern telescopes (Bok, Mayall) whose names do not hold the letter as a word.
_FILTER_BANDS = {"bokr": "r", "zd": "z"}
# Bands of the system of SDSS in upper case or without a mark before them: Hyper Suprime-Cam's HSC-R2, SLOAN-R, SDSSr.
_UPPER_CASE = re.compile(r"\bHSC-([GRIZY])2?\b|\b(?:SDSS|SLOAN)[-_ ]?([UGRIZ])\b", re.IGNORECASE)
_SPECTRAL = ("FREQ", "WAVE", "AWAV", "WAVN", "LAMBDA", "VELO", "VRAD", "VOPT", "FELO", "ZOPT", "BETA", "ENER", "STOKES")
# What comments of cards with a pixel scale say.
_ARCSEC_PER_PIXEL = re.compile(r"(arc-? ?sec\w*|\basec|\"|'')[\])]?\s*(/|per)\s*[\[(]?pi?x", re.IGNORECASE)
_OTHER_SCALE = re.compile(
    r"\b(deg\w*|arc-? ?min\w*|mas|milli\w*|rad(?:ian)?s?|mm|microns?|micro\w*|um)\b", re.IGNORECASE
)
_OTHER_RADIUS = re.compile(rf"{_OTHER_SCALE.pattern}|\bk?pc\b|pi?x(els?)?\b", re.IGNORECASE)
# arcsec per pixel; outside, a card is missing or wrong (a matrix without CDELT has pixels of a degree).
_PIXSCALE_RANGE = (1e-3, 60.0)
# One number is used for both sides of a pixel. Cameras are within 1e-3; 5 % would show as an axis ratio of 0.95.
_MAX_SIDE_RATIO = 1.05


def number(image: StoredImage, keyword: str, default: float = math.nan) -> float:
    """Return the value of a card as a float; the default where it is absent or not a number."""
    value = image.cards.get(keyword)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def kind(image: StoredImage) -> str:
    """Return what goes with a picture of the sky (``'invvar'``, ``'psf'``, ...); ``''`` for the picture itself."""
    # IMAGETYP and PRODTYPE hold for the whole file where the primary header has them; EXTNAME does not.
    extension = _words(image.own_cards.get("EXTNAME", ""))
    words = [*extension, *_words(image.cards.get("IMAGETYP", "")), *_words(image.cards.get("PRODTYPE", ""))]
    if _SUBTRACTED.intersection(words):
        words = [word for word in words if word not in _BACKGROUNDS]
    companion = next((word for word in words if word in _COMPANIONS), "")
    companion = companion or next((word for word in extension if word in _COMPANION_EXTENSIONS), "")
    if companion or extension or OWN_FORM in image.cards:
        return companion
    by_name = _COMPANION_FILE.fullmatch(split_band(PurePath(image.path).name)[0])
    return by_name[1].lower() if by_name else ""


def _words(text: object) -> list[str]:
    return re.findall("[a-z]+", str(text).lower())


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
    if named := _UPPER_CASE.search(text):
        return (named[1] or named[2]).lower()
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
    existing = {letter: file for letter, file in files.items() if Path(file).is_file()}
    if not existing:
        raise CutoutError(f"{template}: there is no such file for any of the bands {', '.join(BAND_LETTERS)}.")
    return existing


def cube_bands(image: StoredImage) -> tuple[str, ...]:
    """Return the names of the planes from ``BANDS`` and ``BAND0``, ``BAND1``, ..., which must not disagree."""
    cards = image.cards
    if str(cards.get("CTYPE3", "")).upper().startswith(_SPECTRAL) and image.n_planes > 1:
        raise CutoutError(
            f"{image.path}: is a spectral cube (CTYPE3 is {cards['CTYPE3']!r}), not an image in a few bands. Make one "
            "image of each band."
        )
    joined = str(cards.get("BANDS", "")).strip()
    separated = joined.split(",") if "," in joined or image.n_planes == 1 else joined
    by_letter = tuple(name.strip() for name in separated) if joined else ()
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


def is_celestial(image: StoredImage) -> bool:
    """Tell whether the axes of an image are a longitude and a latitude, by their names."""
    first, _ = repaired_ctypes(*(str(image.cards.get(f"CTYPE{axis}", "")) for axis in (1, 2)))
    return first.startswith(CELESTIAL)


def pixel_scale(image: StoredImage) -> float:
    """Return arcsec per pixel: the root of the area of a pixel, so turned and flipped images are right."""
    if is_celestial(image):
        scale = _celestial_scale(image)
    else:
        scale = stated_scale(image)
        if math.isnan(scale):
            raise CutoutError(
                f"{image.path}: has no celestial coordinates, so its size on the sky is unknown. Add a card "
                "PIXSCALE, the arcsec per pixel."
            )
    if not _PIXSCALE_RANGE[0] < scale < _PIXSCALE_RANGE[1]:
        raise CutoutError(
            f"{image.path}: its header says {scale:.4g} arcsec per pixel, which no image of a galaxy has. Correct its "
            "CD, PC, CDELT, CUNIT or PIXSCALE cards."
        )
    return scale


def stated_scale(image: StoredImage) -> float:
    """Return the arcsec per pixel that a card states; NaN where none does, or not without doubt.

    ``PIXSCALE`` is galmorph's own and comes first. Other cards count where they agree and their comments name no other
    unit; ``PLTSCALE`` and ``SCALE``, which mean other things elsewhere, where their comment says arcsec per pixel.
    """
    if not math.isnan(scale := _stated(image, "PIXSCALE")):
        return scale
    scales: dict[str, float] = {}
    for first, second in (("SECPIX", "SECPIX"), ("SECPIX1", "SECPIX2"), ("PIXSCAL1", "PIXSCAL2")):
        width, height = abs(_stated(image, first)), abs(_stated(image, second))
        if max(width, height) > _MAX_SIDE_RATIO * min(width, height) > 0:
            raise CutoutError(f"{image.path}: its pixels are not square ({first}, {second}). Resample it.")
        scales[first] = math.sqrt(width * height)
    scales |= {keyword: _stated(image, keyword, sure=True) for keyword in ("PLTSCALE", "SCALE")}
    scales = {keyword: scale for keyword, scale in scales.items() if scale > 0}
    if not scales:
        return math.nan
    if max(scales.values()) > _MAX_SIDE_RATIO * min(scales.values()):
        listed = ", ".join(f"{keyword}={scale:.4g}" for keyword, scale in scales.items())
        raise CutoutError(
            f"{image.path}: its header states several pixel scales ({listed}). Add a card PIXSCALE with the right one, "
            "the arcsec per pixel."
        )
    _say(next(iter(scales)))
    return next(iter(scales.values()))


@cache
def _say(keyword: str) -> None:
    """Say once that a card is taken for the pixel scale."""
    log.info("Of images without celestial coordinates, the card %s is taken for the arcsec per pixel.", keyword)


def _stated(image: StoredImage, keyword: str, *, sure: bool = False) -> float:
    """Return a card's number, also of a text; NaN where the comment, or the text after it, names no arcsec per pixel.

    With `sure`, that must say arcsec per pixel, else it must not say another unit.
    """
    value = image.cards.get(keyword)
    stated = re.match(r"\s*(-?[\d.]+(?:E[+-]?\d+)?)(.*)", str(value), re.IGNORECASE)
    if value is None or isinstance(value, bool) or stated is None:
        return math.nan
    said = f"{stated[2]} {comment(image, keyword)}"
    if not _ARCSEC_PER_PIXEL.search(said) and (sure or _OTHER_SCALE.search(said)):
        return math.nan
    try:
        return float(stated[1])
    except ValueError:
        return math.nan


def comment(image: StoredImage, keyword: str) -> str:
    """Return the comment of a card of the image's own header; ``''`` for none."""
    cards = (image.header_text[i : i + 80] for i in range(0, len(image.header_text), 80))
    card = next((card for card in cards if card.startswith(f"{keyword:<8}=")), "")
    return re.sub(r"'[^']*'", "", card).partition("/")[2]


def _celestial_scale(image: StoredImage) -> float:
    """Return arcsec per pixel as astropy has it: a PC matrix goes with CDELT and before a CD matrix."""
    cards = image.cards
    elements = [(i, j) for i in (1, 2) for j in (1, 2)]
    names = {name: [name.format(i, j) for i, j in elements] for name in ("PC{}_{}", "PC00{}00{}", "CD{}_{}")}
    form = next((name for name, keywords in names.items() if any(key in cards for key in keywords)), "")
    scales = [arcsec_of(str(cards.get(f"CUNIT{axis}", ""))) for axis in (1, 2)]
    for axis, scale in enumerate(scales, start=1):
        if math.isnan(scale):
            raise CutoutError(
                f"{image.path}: its pixel scale is in {cards.get(f'CUNIT{axis}')!r} (CUNIT{axis}), which is no unit of "
                "angle. Correct it to 'deg'."
            )
    if not form.startswith("CD"):
        scales = [scale * number(image, f"CDELT{axis}", 1.0) for axis, scale in enumerate(scales, start=1)]
    keywords = names[form] if form else [""] * 4
    default = [0.0 if form.startswith("CD") else float(i == j) for i, j in elements]
    a, b, c, d = (number(image, key, value) for key, value in zip(keywords, default, strict=True))
    a, b, c, d = a * scales[0], b * scales[0], c * scales[1], d * scales[1]
    width, height = math.hypot(a, c), math.hypot(b, d)
    if max(width, height) > _MAX_SIDE_RATIO * min(width, height) > 0:
        raise CutoutError(f"{image.path}: its pixels are not square ({width / height:.3g} to 1). Resample it.")
    return math.sqrt(abs(a * d - b * c))


def flux_pixscale(image: StoredImage) -> float:
    """Return arcsec per native pixel, which the flux is per: ``PIXNATIV``, the survey's, else that of the image."""
    native = number(image, "PIXNATIV")
    if 0 < native < math.inf:
        return native
    native = native_pixscale(survey(image))
    return pixel_scale(image) if math.isnan(native) else native


def radius(image: StoredImage) -> float:
    """Return the galaxy's radius in arcsec from ``RADIUS`` or ``PETROR90``, NaN where there is none."""
    said = {card: comment(image, card) for card in ("RADIUS", "PETROR90") if card in image.cards}
    arcsec = (card for card, text in said.items() if "arcsec" in text.lower() or not _OTHER_RADIUS.search(text))
    values = (number(image, card) for card in arcsec)
    return next((value for value in values if 0 < value < math.inf), math.nan)
