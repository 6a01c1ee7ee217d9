"""Throughput of ``classify`` from FITS cubes, as ratios measured in one run on the same files.

``python benchmarks/classify.py [--targets 1024] [--dtype auto]`` prints, for cubes of 162, 256 and 424 px, with the
radius in the catalog and without it (then it is measured on the cutout):

- ``bare``: the network alone, fed with tensors that lie ready in memory; the backbone as it is trained, and folded as
  ``classify`` runs it; same weights and dtype, batches of 64, all threads;
- ``classify``: from the catalog's path to the written table, start-up included;
- ``plain``: what one would write first: astropy and a WCS for each file, a numpy composite, eager float32 in batches;
  in a process of its own, as memory is handled otherwise where ``classify`` has run.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from galmorph.classification.classify import classify
from galmorph.cli import demo
from galmorph.images.colours import ZOO_HIGH, ZOO_LOW
from galmorph.images.cutout import Cutout, write_cutout
from galmorph.models.model import Model, load
from galmorph.models.predictor import Predictor
from galmorph.tables import catalog

MODEL = "galaxyzoo2-mobilenet_v2"
BATCH_SIZE = 64  # of the bare network and of the plain loop


def made_survey(folder: Path, n_targets: int, side: int, *, radius: bool) -> Path:
    """Write cutouts of the drawn galaxies of the demo with fresh noise, and their catalog with or without a radius."""
    from astropy.io import fits

    generator = np.random.default_rng(0)
    kinds = [demo.light(galaxy, side, demo.PIXSCALE) for galaxy in demo.GALAXIES]
    header = fits.Header(demo.wcs_cards((side, side))).tostring()
    paths = []
    for i in range(n_targets):
        planes = [kinds[i % len(kinds)][band] + generator.normal(0, demo.NOISE[band], (side, side)) for band in "grz"]
        flux = np.stack(planes).astype(np.float32)
        paths.append(f"{i % 100:02d}/{i}.fits")
        (folder / paths[-1]).parent.mkdir(exist_ok=True)
        cutout = Cutout(str(i), "decals", ("g", "r", "z"), flux, demo.PIXSCALE, demo.PIXSCALE, header_text=header)
        write_cutout(cutout, folder / paths[-1])
    columns = [catalog.Column("id", "int64"), catalog.Column("cutout", "str", width=24)]
    values = {"id": np.arange(n_targets), "cutout": np.array(paths, dtype=object)}
    if radius:
        columns.append(catalog.Column("petroR90_r", "float32", unit="arcsec"))
        values["petroR90_r"] = np.full(n_targets, 8.0, np.float32)
    catalog.write_catalog(folder / "targets.fits", columns, [values], n_targets)
    return folder / "targets.fits"


@torch.inference_mode()
def bare_rate(network: torch.nn.Module, size: int, dtype: torch.dtype) -> float:
    """Return images a second of a network, the best of three times eight batches."""
    images = torch.rand(BATCH_SIZE, 3, size, size).to(dtype).to(memory_format=torch.channels_last)
    network(images)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(8):
            network(images)
        seconds.append(time.perf_counter() - started)
    return 8 * BATCH_SIZE / min(seconds)


@cache
def warm_model() -> Model:
    """Return the model, whose network has seen a batch."""
    model = load(MODEL)
    size = model.card.input_size
    model.network(torch.zeros(BATCH_SIZE, 3, size, size))
    return model


@torch.inference_mode()
def plain_rate(table: Path, n_targets: int) -> float:
    """Return galaxies a second of a plain loop over the first targets."""
    from astropy.io import fits
    from astropy.wcs import WCS

    model = warm_model()
    size = model.card.input_size
    started = time.perf_counter()
    batch = []
    for path in fits.getdata(table)["cutout"][:n_targets]:
        with fits.open(table.parent / path) as hdus:
            flux = hdus[0].data.astype(np.float32)
            pixscale = WCS(hdus[0].header, naxis=2).proj_plane_pixel_scales()[0].to_value("arcsec")
        half = min(int(2.56 * 8.0 / pixscale), flux.shape[1] // 2)
        middle = flux.shape[1] // 2
        flux = flux[::-1, middle - half : middle + half, middle - half : middle + half]
        low, high = np.arcsinh(ZOO_LOW), np.arcsinh(ZOO_HIGH)
        rgb = (np.arcsinh(flux / np.array([0.019, 0.014, 0.008])[:, None, None]) - low) / (high - low)
        rgb = torch.from_numpy(rgb.clip(0, 1).astype(np.float32))[None]
        batch.append(torch.nn.functional.interpolate(rgb, (size, size), mode="bilinear", antialias=True)[0])
        if len(batch) == BATCH_SIZE:
            model.probabilities(model.network(torch.stack(batch)))
            batch.clear()
    return n_targets / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=1024)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    options = parser.parse_args()
    n_targets = options.targets // BATCH_SIZE * BATCH_SIZE
    model = load(MODEL)
    predictor = Predictor(model, dtype=options.dtype)
    size = model.card.input_size
    trained = model.network.to(predictor.dtype).to(memory_format=torch.channels_last)
    as_trained = bare_rate(trained, size, predictor.dtype)
    folded = bare_rate(predictor.network, size, predictor.dtype)
    print(f"{predictor.dtype}, {torch.get_num_threads()} threads, {n_targets} targets, input {size} px")
    print(f"bare network: {as_trained:.0f} images a second as trained, {folded:.0f} folded")
    print("cube px  radius     classify/s  /bare as trained  /bare folded  plain/s  classify/plain")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        for side, radius in itertools.product((162, 256, 424), (True, False)):
            with tempfile.TemporaryDirectory() as folder:
                table = made_survey(Path(folder), n_targets, side, radius=radius)
                plain = alone.submit(plain_rate, table, max(BATCH_SIZE, n_targets // 4)).result()
                rate = classify(table, model=MODEL, dtype=options.dtype).rate
            radii = "catalog " if radius else "measured"
            print(
                f"{side:7d}  {radii} {rate:12.0f} {rate / as_trained:17.2f} {rate / folded:13.2f} {plain:8.0f} "
                f"{rate / plain:15.1f}"
            )


if __name__ == "__main__":
    main()
