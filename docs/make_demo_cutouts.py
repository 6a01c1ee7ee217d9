"""Make the real galaxies of ``galmorph demo``: ``python docs/make_demo_cutouts.py FOLDER``.

FOLDER holds the original images, as these public repositories have them (paths below it as in `GALAXIES`):
astropy/astropy-data (SDSS), zooniverse/decals, mwalmsley/galaxy-zoo-bayesian-cnn and pysersic/pysersic (Legacy
Surveys).
Pixels are those of the originals, but for the rounding of the compression, which is a fraction of the noise; none is
resampled. R90 is measured on the cutout, as ``galmorph classify`` does.
"""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from galmorph.images.cutout import Cutout, read_cutout
from galmorph.images.radius import measure_r90

OUT = Path(__file__).parents[1] / "galmorph" / "cli" / "demo_cutouts"
WIDTH_R90 = 5.5  # width of a cutout: the model's frame, 5.12 R90, and some sky around it
QUANTIZE = 4.0  # the step of the rounding is the noise of a pixel divided by this
_WCS = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")

_SDSS = "sdss-gri-reprojected/reprojected_sdss_{band}.fits.bz2"
_OPENNGC = "HyperLeda, in OpenNGC"


@dataclass(frozen=True)
class Original:
    """A galaxy in an original image.

    Attributes
    ----------
    id : str
        Name, without blanks.
    path : str
        Of the image, below the folder of the originals.
    release : str
        Which data release the pixels are of.
    pixel : tuple of int or None
        Where the galaxy's nucleus is, (x, y) from 0; None: in the middle.
    type, type_source : str
        What experts or volunteers called it, and who says so; '' where nothing is at hand.
    note : str
        What else is to be said.
    """

    id: str
    path: str
    release: str
    pixel: tuple[int, int] | None = None
    type: str = ""
    type_source: str = ""
    note: str = ""


GALAXIES = (
    Original("NGC6976", _SDSS, "SDSS DR13", (78, 96), "SABb", _OPENNGC, "NGC 6975 is the same galaxy"),
    Original("NGC6977", _SDSS, "SDSS DR13", (163, 131), "Sa", _OPENNGC),
    Original("NGC6978", _SDSS, "SDSS DR13", (278, 187), "Sb", _OPENNGC),
    Original(
        "J0946-0102",
        "ls-cubes/temp_small.fits",
        "DECaLS DR5",
        None,
        "ring",
        "volunteers, Galaxy Zoo DECaLS",
        "another picture of it is in the training sample of the shipped model",
    ),
    Original("J0948-0021", "ls-cubes/example_c.fits", "DECaLS DR5"),
    Original("J0000+0032", "ls-cube-162/example_b.fits", "DECaLS DR5"),
    Original("J0356-3029N", "ls-subimage/cutout_59.1067_-30.4848.fits", "Legacy Surveys DR9", (127, 131)),
    Original("J0356-3029S", "ls-subimage/cutout_59.1067_-30.4848.fits", "Legacy Surveys DR9", (122, 58)),
)


def read(path: Path) -> Cutout:
    """Return an original image as a cutout; the SDSS frames are one file a band, whose headers all say g."""
    if "{band}" not in path.name:
        return read_cutout(path)
    planes, header = [], fits.Header()
    for band in "gri":
        with fits.open(str(path).replace("{band}", band)) as hdus:
            planes.append(hdus[0].data.astype(np.float32))
            header = hdus[0].header
    own = fits.Header([(name, header[name]) for name in _WCS])
    pixscale = 3600 * math.sqrt(abs(np.linalg.det(WCS(own).pixel_scale_matrix)))
    return Cutout("", "sdss", ("g", "r", "i"), np.stack(planes), 0.396, pixscale, header_text=own.tostring())


def centre(whole: Cutout, pixel: tuple[int, int] | None) -> tuple[float, float]:
    """Return where a galaxy is, (x, y) in pixels."""
    height, width = whole.flux.shape[1:]
    return pixel or ((width - 1) / 2, (height - 1) / 2)


def cut(whole: Cutout, x: float, y: float, width_arcsec: float = 1e9) -> Cutout:
    """Return the square around a place that is as wide as asked, or as the image allows."""
    height, width = whole.flux.shape[1:]
    half = min(width_arcsec / whole.pixscale // 2 + x % 1, x, y, width - 1 - x, height - 1 - y)
    rows, columns = (slice(int(c - half), int(c + half) + 1) for c in (y, x))
    header = fits.Header([(name, whole.header[name]) for name in _WCS])
    header["CRPIX1"] -= columns.start
    header["CRPIX2"] -= rows.start
    flux = np.ascontiguousarray(whole.flux[:, rows, columns])
    return replace(whole, flux=flux, header_text=header.tostring())


def write(cutout: Cutout, galaxy: Original, out: Path) -> None:
    """Write a cutout as a tile-compressed cube."""
    header = fits.Header(cutout.header, copy=True)
    header["SURVEY"] = (cutout.survey, "survey")
    header["RELEASE"] = (galaxy.release, "data release")
    header["BANDS"] = ("".join(cutout.bands), "one plane each, in this order")
    header["BUNIT"] = ("nanomaggy", "AB, zero point 22.5, per native pixel")
    header["PIXNATIV"] = (cutout.flux_pixscale, "[arcsec] native pixel that the flux is per")
    header["PIXSCALE"] = (cutout.pixscale, "[arcsec] pixel of this grid")
    header["OBJECT"] = (galaxy.id, "target")
    header["ORIGFILE"] = (galaxy.path, "original")
    hdu = fits.CompImageHDU(
        cutout.flux,
        header,
        compression_type="RICE_1",
        tile_shape=(1, 16, cutout.flux.shape[2]),
        quantize_level=QUANTIZE,
        quantize_method=fits.hdu.compressed.SUBTRACTIVE_DITHER_2,  # zeros, where there are no data, stay zeros
        dither_seed=1,
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(out / f"{galaxy.id}.fits", overwrite=True)


def main(originals: Path, out: Path = OUT) -> None:
    """Write the cutouts and their table."""
    out.mkdir(exist_ok=True)
    with (out / "galaxies.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "ra", "dec", "petroR90_r", "release", "type", "type_source", "note"])
        for galaxy in GALAXIES:
            whole = read(originals / galaxy.path)
            x, y = centre(whole, galaxy.pixel)
            cutout = cut(whole, x, y)
            for _ in range(3):  # the radius is that on the cutout, whose width it sets
                cutout = cut(whole, x, y, WIDTH_R90 * (r90 := measure_r90(cutout)))
            write(cutout, galaxy, out)
            ra, dec = whole.wcs.wcs_pix2world(x, y, 0)
            numbers = [f"{ra:.6f}", f"{dec:.6f}", f"{r90:.2f}"]
            writer.writerow([galaxy.id, *numbers, galaxy.release, galaxy.type, galaxy.type_source, galaxy.note])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
