"""A survey image from disk to table without the network, and its stamps beside a loop of Cutout2D.

``python benchmarks/field.py`` makes a field of 3,600 x 3,600 px in three bands with 2,000 galaxies and prints

- the seconds of all that is not the network: reading, detection, stamps, colours, flags, writing (bound: 6 s on two
  cores);
- cutting and stretching against a loop of astropy's Cutout2D, a resize and a NumPy composite: the ratio (bound: 10) and
  the largest difference of a pixel (bound: 1e-3);
- what was found of the galaxies and the stars;
- with ``--real FOLDER`` (of FITS files by other projects) how many of the galaxies are found that are added to real
  images, 2 R90 or more from anything detected there, at a signal to noise of 40 (bound: 0.95).

The network is loaded beforehand: that is its own time. The loop runs in a process of its own, as memory is handled
otherwise where ``classify`` has run.

Processor seconds are printed beside those of the clock: on a busy machine only they say what the program takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from fields import REAL, Field, made_field, matched, real_planes, refound, write_cube

from galmorph.classification.classify import classify
from galmorph.classification.opening import open_survey
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.survey_images import FieldSource
from galmorph.images.colours import ZOO_CONTRAST, ZOO_HIGH, ZOO_LOW
from galmorph.images.framing import cut
from galmorph.images.normalization import Normalization
from galmorph.models.card import ModelCard, find, read_card
from galmorph.models.model import load
from galmorph.models.predictor import Predictor

MODEL = "galaxyzoo2-mobilenet_v2"
BATCH_SIZE = 16
WORKERS = 2
# Galaxies for which the loop is run and whose pixels are compared.
KEPT = 300


class _NoNetwork(Predictor):
    """A predictor whose network costs nothing."""

    def judge(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n_labels = len(self.model.schema.labels)
        return torch.full((len(images), n_labels), 1 / n_labels), torch.full((len(images),), torch.nan)


def ours(source: FieldSource, targets: np.ndarray, widths: np.ndarray, card: ModelCard) -> np.ndarray:
    """Make the composites that the network gets, before its mean and standard deviation; return the first `KEPT`."""
    normalization = card.inputs[0].normalization
    opened = source._open(0)
    planes, bands = opened.planes.flux, [opened.planes.bands.index(band) for band in normalization.bands]
    result = np.zeros((KEPT, 3, normalization.input_size, normalization.input_size), np.float32)

    def batch(start: int) -> None:
        part = slice(start, start + BATCH_SIZE)
        flux = cut(planes, targets["x"][part], targets["y"][part], widths[part], normalization.input_size, bands)
        pictures = normalization.rgb(flux)[: max(0, KEPT - start)]
        result[start : start + len(pictures)] = pictures.numpy()

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(batch, range(0, len(targets), BATCH_SIZE)))
    return result


def plain(field: Field, targets: np.ndarray, widths: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Return the same by a loop of Cutout2D with its WCS, Pillow's resize and a NumPy composite."""
    from astropy.nddata import Cutout2D
    from astropy.wcs import WCS

    wcs = WCS(field.header)
    low, high = np.arcsinh(ZOO_LOW), np.arcsinh(ZOO_HIGH)
    scales = np.array(normalization.scales)[:, None, None]
    size = normalization.input_size
    result = []
    for x, y, width in zip(targets["x"], targets["y"], widths, strict=True):
        side = int(np.ceil(width + 2 * max(1.0, width / size))) + 4
        stamps = []
        for plane in field.flux[::-1]:
            piece = Cutout2D(plane, (x, y), side, wcs=wcs, mode="partial", fill_value=0.0)
            cx, cy = (
                x - piece.origin_original[0] + piece.origin_cutout[0],
                y - piece.origin_original[1] + piece.origin_cutout[1],
            )
            box = (cx + 0.5 - width / 2, cy + 0.5 - width / 2, cx + 0.5 + width / 2, cy + 0.5 + width / 2)
            stamps.append(np.asarray(Image.fromarray(piece.data).resize((size, size), Image.Resampling.BILINEAR, box)))
        rgb = (np.arcsinh(np.stack(stamps) / scales) - low) / (high - low)
        grey = rgb.mean(axis=0)
        contrast = np.minimum((rgb / np.where(grey != 0, grey, 1)).max(axis=0) / ZOO_CONTRAST, 1)
        colour = np.sin((1 - contrast) * np.pi / 2)
        fade = 1 - colour
        result.append((rgb * (colour + grey * fade**2) + grey * fade).clip(0, 1))
    return np.stack(result)


def timed(run):
    """Return seconds of the clock and of the processor, and the result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = run()
    return time.perf_counter() - clock, time.process_time() - processor, result


def timed_plain(
    field: Field, targets: np.ndarray, widths: np.ndarray, normalization: Normalization
) -> tuple[float, float, np.ndarray]:
    """Return what `timed` does of `plain`, after a few for warming."""
    plain(field, targets[:8], widths[:8], normalization)
    return timed(lambda: plain(field, targets, widths, normalization))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=3600)
    parser.add_argument("--galaxies", type=int, default=2000)
    parser.add_argument("--real", type=Path, help="folder of real images")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    field = made_field(arguments.side, arguments.galaxies, arguments.galaxies // 2, seed=1)
    card = read_card(find(MODEL))
    with tempfile.TemporaryDirectory() as folder:
        path = write_cube(Path(folder) / "field.fits", field)
        small = write_cube(Path(folder) / "small.fits", made_field(300, 4, 6, seed=2))
        open_survey(small, ClassifyOptions(kind="field")).open()  # imports are not what is measured
        predictor = _NoNetwork(load(MODEL), "cpu")
        clock, processor, summary = timed(lambda: classify(path, model=predictor, workers=WORKERS))
        spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in summary.profile.items())
        print(f"{arguments.side} px, {arguments.galaxies} galaxies, {summary.targets} found, {WORKERS} threads")
        print(f"all but the network: {clock:.2f} s by the clock, {processor:.2f} s of processors ({spent})")
        print(f"bound: 6 s; ratio to it {clock / 6:.2f} by the clock, {processor / WORKERS / 6:.2f} by processors / 2")
        source = open_survey(path, ClassifyOptions(kind="field"))
        source.open()
        targets = source._targets
        normalization = card.inputs[0].normalization
        widths = normalization.framing.radii * targets["r90"]
        good = np.isfinite(widths)
        targets, widths = targets[good], widths[good]
        ours(source, targets[:64], widths[:64], card)
        few = slice(0, KEPT)
        clock, processor, stamps = timed(lambda: ours(source, targets, widths, card))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            given = field, targets[few], widths[few], normalization
            clock_plain, processor_plain, expected = alone.submit(timed_plain, *given).result()
        each, each_plain = clock / len(targets), clock_plain / len(expected)
        print(f"cutting and stretching: {1e3 * each:.3f} ms a galaxy, Cutout2D and NumPy {1e3 * each_plain:.3f} ms")
        print(f"ratio {each_plain / each:.1f} by the clock on {WORKERS} threads (bound: 10)")
        of_cores = processor_plain / len(expected) / (processor / len(targets))
        print(f"ratio {of_cores:.1f} by processor seconds, one core each")
        print(f"largest difference of a pixel: {np.abs(stamps[few] - expected).max():.1e} (bound: 1e-3)")
        bright = field.galaxies["snr"] > 20
        number = matched(field.galaxies, targets)
        away = np.hypot(*(field.galaxies[axis] - targets[axis][number] for axis in "xy"))[bright & (number >= 0)]
        complete, pure = (number[bright] >= 0).mean(), (matched(targets, field.galaxies) >= 0).mean()
        stars = (matched(field.stars, targets) >= 0).mean()
        print(f"complete {complete:.3f}, pure {pure:.3f}, stars taken for galaxies {stars:.3f}")
        print(f"positions within {np.median(away):.3f} px (median)")
    for name in REAL if arguments.real else ():
        planes, fwhm_px = real_planes(arguments.real, name)
        added, galaxies = refound(planes, fwhm_px, 200)
        share = (matched(added, galaxies, 3.0) >= 0).mean()
        print(f"{name}: of {len(added)} galaxies added, {share:.3f} are found (bound: 0.95)")


if __name__ == "__main__":
    main()
