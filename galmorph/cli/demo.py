"""The demo: a small made-up survey field, its cutouts and catalog, classified and drawn. Needs no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.classify import Summary, classify
from galmorph.images.cutout import Cutout, read_cutout, write_cutout
from galmorph.images.quality import measure_r90
from galmorph.reports.catalog import report as write_report
from galmorph.tables.catalog import Column, write_catalog

PIXSCALE = 0.262  # arcsec per pixel of the Legacy Surveys
SIDE = 352  # pixels of a cutout: 92 arcsec, wider than the frame of the largest galaxy
CENTRE = (150.1, 2.2)  # ICRS degrees, in the COSMOS field
SEED = 20
# Standard deviation of a pixel's noise (nanomaggies) at the 5-sigma point-source depths of DR9, 24.7, 23.9 and 23.0 mag
# (https://www.legacysurvey.org/dr9/description/), and the seeing there (arcsec, FWHM).
NOISE = {"g": 0.0035, "r": 0.0074, "z": 0.017}
SEEING = {"g": 1.29, "r": 1.18, "z": 1.11}
# Flux relative to r of an old population and of a young one: colours of an elliptical and of a spiral's arms.
OLD, YOUNG = {"g": 0.47, "r": 1.0, "z": 1.75}, {"g": 0.72, "r": 1.0, "z": 1.25}

Image = NDArray[np.float64]


@dataclass(frozen=True)
class Galaxy:
    """A made-up galaxy: what it is, and its light.

    Attributes
    ----------
    kind : str
        In the words of Galaxy Zoo.
    mag_r : float
        Total magnitude.
    radius : float
        Half-light radius of the disk or spheroid in arcsec.
    bulge : float
        Share of the light in a spheroid (Sersic index 4 where it is all of it, else 2).
    axis_ratio, angle : float
        Of the whole; radians.
    arms : int
        Spiral arms; 0: none.
    winding : float
        Radians that an arm turns over a factor e in radius.
    bar, ring : float
        Share of the disk's light in a bar and in a ring.
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
    bar: float = 0.0
    ring: float = 0.0
    companion: float = 0.0


GALAXIES = (
    Galaxy("smooth, round", 15.6, 4.0),
    Galaxy("smooth, in between", 15.9, 4.5, axis_ratio=0.62, angle=1.1),
    Galaxy("smooth, cigar", 16.2, 5.5, axis_ratio=0.27, angle=0.3),
    Galaxy("edge-on disk, bulge", 15.8, 7.0, bulge=0.25, axis_ratio=0.13, angle=2.4),
    Galaxy("edge-on disk, no bulge", 16.4, 7.5, bulge=0.01, axis_ratio=0.08, angle=0.9),
    Galaxy("spiral, tight", 15.3, 7.0, bulge=0.22, axis_ratio=0.85, arms=2, winding=5.5),
    Galaxy("spiral, two arms", 15.2, 7.5, bulge=0.12, axis_ratio=0.9, arms=2, winding=3.2),
    Galaxy("spiral, loose", 15.4, 8.0, bulge=0.08, axis_ratio=0.75, arms=3, winding=2.0),
    Galaxy("barred spiral", 15.2, 7.5, bulge=0.1, axis_ratio=0.92, arms=2, winding=2.4, bar=0.22),
    Galaxy("ring", 15.6, 6.5, bulge=0.3, axis_ratio=0.88, ring=0.55),
    Galaxy("merger", 15.7, 5.5, bulge=0.5, axis_ratio=0.7, companion=0.6),
    Galaxy("smooth, small and faint", 18.6, 1.8, axis_ratio=0.8),
)


@dataclass(frozen=True)
class Demo:
    """What the demo made: the run's summary, the picture, the report, and a table to print."""

    summary: Summary
    picture: Path
    report: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def demo(
    out: Path, *, galaxies: tuple[Galaxy, ...] = GALAXIES, on_progress: Callable[[int, int], None] | None = None
) -> Demo:
    """Make a survey field, cut out its galaxies, classify them with the shipped model and draw them.

    Parameters
    ----------
    out : Path
        Folder for ``cutouts/``, ``targets.fits``, ``targets_morph.fits``, ``galaxies.png`` and ``report.html``; what a
        demo left there before is replaced.
    galaxies : tuple of Galaxy
    on_progress : callable, optional

    Raises
    ------
    GalmorphError
        If the folder cannot be written.
    """
    from galmorph.training import figures

    (out / "cutouts").mkdir(parents=True, exist_ok=True)
    columns = 4
    flux, header = field(galaxies, columns)
    cutouts = [cut(flux, header, i % columns, i // columns, f"demo-{i + 1:02d}") for i in range(len(galaxies))]
    paths = []
    for cutout in cutouts:
        paths.append(f"cutouts/{cutout.target_id}.fits")
        write_cutout(cutout, out / paths[-1])
    _write_targets(out / "targets.fits", galaxies, cutouts, paths)
    summary = classify(out / "targets.fits", overwrite=True, on_progress=on_progress)
    results = _results(Path(summary.out))
    header_row = ("id", "made as", "morph_label", "smooth", "featured", "edge-on", "spiral", "odd", "flags")
    rows = tuple(
        (cutout.target_id, galaxy.kind, *_told(result))
        for cutout, galaxy, result in zip(cutouts, galaxies, results, strict=True)
    )
    picture = out / "galaxies.png"
    titles = [f"{galaxy.kind}\n{result['morph_label']}" for galaxy, result in zip(galaxies, results, strict=True)]
    bars = [_bars(result) for result in results]
    figures.save(figures.gallery([_composite(out / path) for path in paths], titles, bars), picture)
    write_report(summary.out, out / "report.html")
    return Demo(summary, picture, out / "report.html", header_row, rows)


def light(galaxy: Galaxy, side: int, pixscale: float) -> dict[str, Image]:
    """Return a galaxy's surface brightness without noise or seeing.

    Parameters
    ----------
    galaxy : Galaxy
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
        if galaxy.ring:
            ring = np.exp(-(((radius - 1.25 * galaxy.radius) / (0.17 * galaxy.radius)) ** 2))
            disk = (1 - galaxy.ring) * disk / disk.sum() + galaxy.ring * ring / ring.sum()
        if galaxy.bar:
            bar = np.exp(-((along / (0.45 * galaxy.radius)) ** 4) - (across / (0.12 * galaxy.radius)) ** 2)
            old = old + galaxy.bar * bar / bar.sum()
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
    """Return a made-up field: galaxies on a grid, stars in between, seeing and noise.

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
    from astropy.io import fits

    y, x = row * SIDE, column * SIDE
    own = fits.Header(header)
    own["CRPIX1"] = header["CRPIX1"] - x  # type: ignore[operator]
    own["CRPIX2"] = header["CRPIX2"] - y  # type: ignore[operator]
    planes = np.stack([flux[band][y : y + SIDE, x : x + SIDE] for band in "grz"]).astype(np.float32)
    return Cutout(name, "decals", ("g", "r", "z"), planes, PIXSCALE, PIXSCALE, header_text=own.tostring())


def _write_targets(path: Path, galaxies: tuple[Galaxy, ...], cutouts: list[Cutout], paths: list[str]) -> None:
    positions = [c.wcs.pixel_to_world((SIDE - 1) / 2, (SIDE - 1) / 2) for c in cutouts]
    columns = (
        Column("id", "str", ucd="meta.id;meta.main", description="made-up galaxy", width=16),
        Column("ra", "float64", unit="deg", ucd="pos.eq.ra;meta.main"),
        Column("dec", "float64", unit="deg", ucd="pos.eq.dec;meta.main"),
        Column("petroR90_r", "float32", unit="arcsec", ucd="phys.angSize", description="R90, measured on the cutout"),
        Column("made_as", "str", description="what the galaxy was made to be", width=32),
        Column("cutout", "str", ucd="meta.ref.url", width=32),
    )
    values = {
        "id": np.array([c.target_id for c in cutouts], dtype=object),
        "ra": np.array([p.ra.deg for p in positions]),
        "dec": np.array([p.dec.deg for p in positions]),
        "petroR90_r": np.array([measure_r90(c) for c in cutouts], dtype=np.float32),
        "made_as": np.array([g.kind for g in galaxies], dtype=object),
        "cutout": np.array(paths, dtype=object),
    }
    write_catalog(path, columns, [values], len(cutouts))


def _results(path: Path) -> list[Mapping[str, object]]:
    from astropy.table import Table

    table = Table.read(path)
    return [dict(zip(table.colnames, row, strict=True)) for row in table.iterrows()]


def _told(result: Mapping[str, object]) -> tuple[str, ...]:
    shown = (
        "p_smooth_or_featured_smooth",
        "p_smooth_or_featured_featured_or_disk",
        "p_disk_edge_on_yes",
        "p_has_spiral_arms_yes",
        "p_something_odd_yes",
    )
    return (str(result["morph_label"]), *(f"{result[name]:.2f}" for name in shown), str(result["morph_flag"]))


def _bars(result: Mapping[str, object]) -> dict[str, float]:
    return dict(zip(("smooth", "featured", "edge-on", "spiral", "odd"), map(float, _told(result)[1:6]), strict=True))


def _composite(path: Path) -> NDArray[np.float32]:
    """Return the picture that the model saw, without the framing: rows north up, shape (y, x, 3)."""
    import torch

    from galmorph.models import card

    cutout = read_cutout(path)
    normalization = card.read_card(card.find("galaxyzoo2-mobilenet_v2")).inputs[0].normalization
    flux = torch.from_numpy(np.stack([cutout.plane(band) for band in normalization.bands]))
    return normalization.rgb(flux[None])[0].permute(1, 2, 0).flip(0).numpy()
