"""Small made-up data for tests: labelled pictures, models, cutouts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from astropy.table import Table
from PIL import Image

from galmorph import registry
from galmorph.images.cutout import Cutout, write_cutout
from galmorph.images.framing import Framing, frame
from galmorph.models.card import ModelCard, survey_inputs
from galmorph.models.model import Model, save


def blob(kind, rng, side=64):
    """A picture, uint8 (side, side, 3): kind 0 a round smooth spot, kind 1 a thin line, kind 2 a ring."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    r = np.hypot(x, y)
    light = (np.exp(-((r / 9) ** 2)), np.exp(-((u / 16) ** 2) - (v / 2.5) ** 2), np.exp(-(((r - 12) / 3) ** 2)))[kind]
    picture = 200 * light[..., None] * rng.uniform(0.7, 1, 3) + rng.normal(20, 5, (side, side, 3))
    return picture.clip(0, 255).astype(np.uint8)


def galaxy10_file(path, n=90, seed=0):
    """A Galaxy10-like HDF5 file of three easy classes (0, 3, 9)."""
    import h5py

    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    with h5py.File(path, "w") as file:
        file["images"] = np.stack([blob(kind, rng) for kind in kinds])
        file["ans"] = np.array([0, 3, 9], np.uint8)[kinds]
    return path


def kaggle_folder(path, n=40, seed=0):
    """A folder in Kaggle's layout with questions 1 and 7 known."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    schema = registry.load("schemas", "galaxyzoo2")
    (path / "images_training_rev1").mkdir(parents=True)
    rows = []
    for i in range(n):
        smooth = (i % 2) * 0.8 + 0.1
        row = dict.fromkeys(schema.codes, np.nan)
        row |= {"Class1.1": smooth, "Class1.2": 1 - smooth, "Class1.3": 0.0}
        row |= {"Class7.1": smooth / 2, "Class7.2": smooth / 2, "Class7.3": 0.0}
        rows.append({"GalaxyID": 1000 + i, **row})
        Image.fromarray(blob(1 - i % 2, rng)).save(path / "images_training_rev1" / f"{1000 + i}.jpg")
    pd.DataFrame(rows).to_csv(path / "training_solutions_rev1.csv", index=False)
    return path


def labelled_folder(path, **columns):
    """A folder with ``labels.csv`` of four galaxies."""
    import pandas as pd

    folder = kaggle_folder(path, n=4)
    (folder / "training_solutions_rev1.csv").unlink()
    files = [f"images_training_rev1/{i}.jpg" for i in range(1000, 1004)]
    pd.DataFrame({"file": files, **columns}).to_csv(folder / "labels.csv", index=False)
    return folder


def model_file(path, schema="galaxyzoo2", seed=0, **card):
    """An untrained MobileNet V3 small with a card, whose outputs differ from galaxy to galaxy."""
    torch.manual_seed(seed)
    backbone = registry.load("backbones", "mobilenet_v3_small")
    labels = registry.load("schemas", schema).labels
    network = backbone.build(len(labels))
    for module in network.modules():  # statistics of some pictures, else every picture gives the same output
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    inputs = survey_inputs(64, Framing(radii=5.12), backbone.mean, backbone.std)
    normalization = inputs[0].normalization
    flux = np.stack([frame(cutout(seed=i).flux[::-1], 60.0, 64) for i in range(24)])
    pictures = normalization.network_input(normalization.rgb(torch.from_numpy(flux)))
    with torch.no_grad():
        network.train()(pictures)
        logits = network.eval()(pictures)
        network.classifier[3].weight /= logits.std(dim=0).mean()
    values = {"name": path.name.removesuffix(".safetensors"), "backbone": backbone.name, "schema": schema}
    values["inputs"] = inputs
    save(Model(ModelCard(**{**values, **card}), network), path)
    return path


def cutout(name="a", seed=0, side=80, radius=3.0, survey="decals", bands="grz", pixscale=0.262, noise=0.01, wcs=True):
    """A cutout of an elliptical spot with noise, with a WCS."""
    from astropy.io import fits

    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * pixscale
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(0.3, 1)
    u, v = x * np.cos(angle) + y * np.sin(angle), (y * np.cos(angle) - x * np.sin(angle)) / ratio
    spot = rng.uniform(0.5, 3) * np.exp(-np.hypot(u, v) / (radius / 2))
    flux = np.stack([spot * rng.uniform(0.5, 2) + rng.normal(0, noise, spot.shape) for _ in bands]).astype(np.float32)
    header = fits.Header()
    for axis, (kind, value, sign) in enumerate((("RA---TAN", 150.0 + seed, -1), ("DEC--TAN", 2.0, 1)), start=1):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, value
        header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = (side + 1) / 2, sign * pixscale / 3600
    return Cutout(name, survey, tuple(bands), flux, pixscale, pixscale, None, radius, header.tostring() if wcs else "")


def cutout_folder(path, n=5, **options):
    """A folder with the cutouts g0.fits, g1.fits, ..."""
    path.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        write_cutout(cutout(f"g{i}", seed=i, **options), path / f"g{i}.fits")
    return path


def table(path, **columns):
    """A user's catalog with these columns, in the format of its suffix."""
    if path.suffix == ".parquet":
        pd.DataFrame(columns).to_parquet(path, index=False)
        return path
    forms = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".vot": "votable"}
    Table(columns).write(path, format=forms[path.suffix])
    return path
