"""The demo: cutouts of real galaxies that ship with galmorph, and a few drawn ones, classified. Needs no network."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.classify import classify
from galmorph.classification.results import Results, read_results
from galmorph.classification.summary import Summary
from galmorph.files.fits import card
from galmorph.files.pictures import read_picture
from galmorph.images.cutout import Cutout, read_cutout, write_cutout
from galmorph.images.radius import measure_r90
from galmorph.reports.catalog import report as write_report
from galmorph.reports.pictures import composites
from galmorph.tables.catalog import Column, write_catalog

PIXSCALE = 0.262  # arcsec per pixel of the Legacy Surveys
SIDE = 352  # pixels of a drawn cutout: 92 arcsec, wider than the frame of the largest galaxy
CENTRE = (150.1, 2.2)  # ICRS degrees, in the COSMOS field
SEED = 20
# Standard deviation of a pixel's noise (nanomaggies) at the 5-sigma point-source depths of DR9, 24.7, 23.9 and 23.0 mag
# (https://www.legacysurvey.org/dr9/description/), and the seeing there (arcsec, FWHM).
NOISE = {"g": 0.0035, "r": 0.0074, "z": 0.017}
SEEING = {"g": 1.29, "r": 1.18, "z": 1.11}
# Flux relative to r of an old and of a young stellar population: colours of an elliptical and of spiral arms.
OLD, YOUNG = {"g": 0.47, "r": 1.0, "z": 1.75}, {"g": 0.72, "r": 1.0, "z": 1.25}

Image = NDArray[np.float64]


@dataclass(frozen=True)
class Galaxy:
    """A drawn galaxy: what it is, and its light.

    Attributes
    ----------
    kind : str
        Its kind, in the words of Galaxy Zoo.
    mag_r : float
        Total magnitude.
    radius : float
        Half-light radius of the disk or spheroid in arcsec.
    bulge : float
        Share of the light in a spheroid (Sersic index 4 where it is all of it, else 2).
    axis_ratio, angle : float
        Axis ratio of the whole galaxy; position angle of its major axis in radians.
    arms : int
        Spiral arms; 0: none.
    winding : float
        Radians that an arm turns over a factor e in radius.
    companion : float
        Flux of a second nucleus at one and a half radii, relative to the first.
    """

    kind: str
    mag_r: float
    radius: float
    bulge: float = 1.0
    axis_ratio: float = 1.0
    angle: float = 0.6
    arms: int = 0
    winding: float = 2.5
    companion: float = 0.0


# Kinds without a real image here. The shipped model flags most drawings as unlike its training data (flag 32), but not
# these.
GALAXIES = (
    Galaxy("cigar", 16.6, 3.8, bulge=0.62, axis_ratio=0.22, angle=2.5),
    Galaxy("edge-on, bulge", 17.2, 7.2, bulge=0.375, axis_ratio=0.225, angle=0.74),
    Galaxy("edge-on, no bulge", 17.0, 10.0, bulge=0.005, axis_ratio=0.23, angle=2.27),
    Galaxy("merger", 15.66, 4.05, bulge=0.69, axis_ratio=0.77, angle=2.75, arms=1, winding=2.55, companion=0.7),
)


@dataclass(frozen=True)
class Shown:
    """A galaxy of the demo.

    Attributes
    ----------
    cutout : Cutout
        The cutout, with the galaxy at its centre.
    ra, dec : float
        ICRS degrees.
    r90 : float
        Radius of 90 % of the Petrosian flux, measured on the cutout, arcsec.
    release : str
        Data release of the image, or ``drawn``.
    type : str
        The type by experts or volunteers, or what was drawn; '' where there is none.
    type_source : str
        Source of the type.
    note : str
        A remark.
    """

    cutout: Cutout
    ra: float
    dec: float
    r90: float
    release: str
    type: str
    type_source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Demo:
    """The results of the demo: the run's summary, the picture, the report, and a table to print."""

    summary: Summary
    picture: Path
    report: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def demo(
    out: Path, *, galaxies: tuple[Galaxy, ...] = GALAXIES, on_progress: Callable[[int, int], None] | None = None
) -> Demo:
    """Classify cutouts of real galaxies, and of drawn ones, with the shipped model and draw the results.

    Parameters
    ----------
    out : Path
        Folder for ``cutouts/``, ``targets.fits``, ``targets_morph.fits``, ``galaxies.png`` and ``report.html``; results
        of an earlier demo are replaced.
    galaxies : tuple of Galaxy
        What to draw besides the real galaxies.
    on_progress : callable, optional

    Raises
    ------
    GalmorphError
        If the folder cannot be written.
    """
    (out / "cutouts").mkdir(parents=True, exist_ok=True)
    shown = (*real(), *drawn(galaxies))
    paths = []
    for galaxy in shown:
        paths.append(f"cutouts/{galaxy.cutout.target_id}.fits")
        write_cutout(galaxy.cutout, out / paths[-1])
    _write_targets(out / "targets.fits", shown, paths)
    summary = classify(out / "targets.fits", overwrite=True, on_progress=on_progress)
    results = read_results(Path(summary.out))
    picture, page = out / "galaxies.png", out / "report.html"
    _draw(results, shown, picture)
    write_report(summary.out, page)
    p = _probabilities(results)
    rows = tuple(
        (
            galaxy.cutout.target_id,
            galaxy.type,
            results.label[i],
            f"{p['smooth'][i]:.2f}",
            str(results.flag[i]),
        )
        for i, galaxy in enumerate(shown)
    )
    return Demo(summary, picture, page, ("galaxy", "type", "morph_label", "smooth", "flag"), rows)


def real() -> tuple[Shown, ...]:
    """Return the real galaxies that ship with galmorph (``docs/make_demo_cutouts.py``)."""
    folder = resources.files("galmorph.cli") / "demo_cutouts"
    galaxies = []
    for row in csv.DictReader((folder / "galaxies.csv").read_text().splitlines()):
        with resources.as_file(folder / f"{row['id']}.fits") as path:
            cutout = read_cutout(path)
        ra, dec, r90 = float(row["ra"]), float(row["dec"]), float(row["petroR90_r"])
        galaxies.append(Shown(cutout, ra, dec, r90, row["release"], row["type"], row["type_source"], row["note"]))
    return tuple(galaxies)


def drawn(galaxies: tuple[Galaxy, ...]) -> tuple[Shown, ...]:
    """Return drawn galaxies, each in its cell of one field."""
    if not galaxies:
        return ()
    columns = 4
    flux, header = field(galaxies, columns)
    shown = []
    for i, galaxy in enumerate(galaxies):
        cutout = cut(flux, header, i % columns, i // columns, f"drawn-{i + 1}")
        position = cutout.wcs.pixel_to_world((SIDE - 1) / 2, (SIDE - 1) / 2)
        shown.append(
            Shown(cutout, position.ra.deg, position.dec.deg, measure_r90(cutout), "drawn", galaxy.kind, "drawn so")
        )
    return tuple(shown)


def light(galaxy: Galaxy, side: int, pixscale: float) -> dict[str, Image]:
    """Return a galaxy's surface brightness without noise or seeing.

    Parameters
    ----------
    side : int
        Pixels a side; the galaxy is at the centre.
    pixscale : float
        Arcsec per pixel.

    Returns
    -------
    dict of ndarray, shape (side, side)
        By band, in nanomaggies per pixel.
    """
    from astropy.modeling.models import Sersic2D

    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * pixscale
    cos, sin = math.cos(galaxy.angle), math.sin(galaxy.angle)
    along, across = x * cos + y * sin, (y * cos - x * sin) / galaxy.axis_ratio
    radius, azimuth = np.hypot(along, across), np.arctan2(across, along)

    def sersic(scale: float, index: float, u: Image = along, v: Image = across) -> Image:
        profile = Sersic2D(amplitude=1, r_eff=scale, n=index, x_0=0, y_0=0)(u, v)
        return profile / profile.sum()

    if galaxy.bulge == 1.0:
        old, young = sersic(galaxy.radius, 4.0), np.zeros_like(radius)
    else:
        # A spheroid is rounder than the disk around it.
        old = galaxy.bulge * sersic(0.25 * galaxy.radius, 2.0, along, across * max(galaxy.axis_ratio, 0.35))
        disk = sersic(galaxy.radius, 1.0)
        if galaxy.arms:
            phase = galaxy.arms * (azimuth - galaxy.winding * np.log(np.maximum(radius, 0.5) / galaxy.radius))
            inside = 1 / (1 + np.exp(-(radius / galaxy.radius - 0.45) / 0.08))
            disk = disk * (0.35 + 1.9 * inside * np.exp(-((1 - np.cos(phase)) / 0.45)))
        young = (1 - old.sum()) * disk / disk.sum()
    if galaxy.companion:
        shift = 1.5 * galaxy.radius
        second = sersic(0.4 * galaxy.radius, 2.0, along - shift, across * galaxy.axis_ratio + 0.4 * shift)
        tail = np.exp(
            -(((across - 0.12 * along**2 / galaxy.radius) / (0.25 * galaxy.radius)) ** 2) - (along / shift) ** 2
        )
        old = old + galaxy.companion * second
        young = young + 0.25 * galaxy.companion * tail / tail.sum()
    total = 10 ** (0.4 * (22.5 - galaxy.mag_r))
    return {band: total * (old * OLD[band] + young * YOUNG[band]) for band in NOISE}


def field(galaxies: tuple[Galaxy, ...], columns: int) -> tuple[dict[str, Image], Mapping[str, float | str]]:
    """Return a drawn field: galaxies on a grid, stars in between, seeing and noise.

    Returns
    -------
    dict of ndarray, float64, shape (y, x)
        By band, nanomaggies per pixel.
    dict
        Cards of the celestial WCS.
    """
    from astropy.convolution import Gaussian2DKernel, convolve_fft

    generator = np.random.default_rng(SEED)
    rows = -(-len(galaxies) // columns)
    shape = (rows * SIDE, columns * SIDE)
    sky = {band: np.zeros(shape) for band in NOISE}
    for i, galaxy in enumerate(galaxies):
        y, x = i // columns * SIDE, i % columns * SIDE
        for band, image in light(galaxy, SIDE, PIXSCALE).items():
            sky[band][y : y + SIDE, x : x + SIDE] += image
    for _ in range(3 * len(galaxies)):
        y, x = map(int, generator.integers(shape))
        if math.hypot(y % SIDE - SIDE / 2, x % SIDE - SIDE / 2) > 0.3 * SIDE:
            magnitude, colour = generator.uniform(18, 22), generator.uniform(0.4, 1.2)
            for band, power in (("g", colour), ("r", 0.0), ("z", -0.6 * colour)):
                sky[band][y, x] += 10 ** (0.4 * (22.5 - magnitude - power))
    for band, image in sky.items():
        kernel = Gaussian2DKernel(SEEING[band] / 2.355 / PIXSCALE)
        sky[band] = convolve_fft(image, kernel, boundary="wrap") + generator.normal(0, NOISE[band], shape)
    return sky, wcs_cards(shape)


def wcs_cards(shape: tuple[int, int]) -> dict[str, float | str]:
    """Return the cards of a celestial WCS, north up, whose reference is the middle of an image of this shape."""
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": CENTRE[0],
        "CRVAL2": CENTRE[1],
        "CRPIX1": (shape[1] + 1) / 2,
        "CRPIX2": (shape[0] + 1) / 2,
        "CD1_1": -PIXSCALE / 3600,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": PIXSCALE / 3600,
    }


def cut(flux: Mapping[str, Image], header: Mapping[str, float | str], column: int, row: int, name: str) -> Cutout:
    """Return one cell of the field's grid as a cutout with its own WCS and measured radius."""
    y, x = row * SIDE, column * SIDE
    corner = {"CRPIX1": x, "CRPIX2": y}
    cards = [card(key, float(value) - corner[key] if key in corner else value) for key, value in header.items()]
    planes = np.stack([flux[band][y : y + SIDE, x : x + SIDE] for band in "grz"]).astype(np.float32)
    return Cutout(name, "decals", ("g", "r", "z"), planes, PIXSCALE, PIXSCALE, header_text="".join(cards))


def _write_targets(path: Path, shown: tuple[Shown, ...], paths: list[str]) -> None:
    columns = (
        Column("id", "str", ucd="meta.id;meta.main", description="galaxy", width=16),
        Column("ra", "float64", unit="deg", ucd="pos.eq.ra;meta.main"),
        Column("dec", "float64", unit="deg", ucd="pos.eq.dec;meta.main"),
        Column("petroR90_r", "float32", unit="arcsec", ucd="phys.angSize", description="R90, measured on the cutout"),
        Column("type", "str", description="what experts or volunteers call it, or what was drawn", width=20),
        Column("type_source", "str", description="who says so", width=32),
        Column("release", "str", description="data release of the image, or drawn", width=32),
        Column("note", "str", width=72),
        Column("cutout", "str", ucd="meta.ref.url", width=32),
    )
    values = {
        "id": np.array([g.cutout.target_id for g in shown], dtype=object),
        "ra": np.array([g.ra for g in shown]),
        "dec": np.array([g.dec for g in shown]),
        "petroR90_r": np.array([g.r90 for g in shown], dtype=np.float32),
        "cutout": np.array(paths, dtype=object),
    }
    for name in ("type", "type_source", "release", "note"):
        values[name] = np.array([getattr(g, name) for g in shown], dtype=object)
    write_catalog(path, columns, [values], len(shown))


def _probabilities(results: Results) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities that the demo shows, by a short name."""
    names = {
        "smooth": "smooth_or_featured_smooth",
        "featured": "smooth_or_featured_featured_or_disk",
        "edge-on": "disk_edge_on_yes",
        "spiral": "has_spiral_arms_yes",
        "odd": "something_odd_yes",
    }
    return {short: results.p[:, results.schema.labels.index(label)] for short, label in names.items()}


def _draw(results: Results, shown: tuple[Shown, ...], path: Path) -> None:
    """Draw the galaxies as the model saw them, with a few probabilities under each."""
    from galmorph.training.evaluation import figures

    made = composites(results, range(len(shown)))
    pictures = [np.asarray(read_picture(made.jpeg[i]), float) / 255 for i in range(len(shown))]
    titles = []
    for galaxy, label in zip(shown, results.label, strict=True):
        name = "drawn" if galaxy.release == "drawn" else galaxy.cutout.target_id
        titles.append(f"{name}: {galaxy.type}\n{label}" if galaxy.type else f"{name}\n{label}")
    p = _probabilities(results)
    bars = [{name: float(values[i]) for name, values in p.items()} for i in range(len(shown))]
    figures.save(figures.gallery(pictures, titles, bars), path)
