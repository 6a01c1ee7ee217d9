"""How well unlikeness tells galaxies from other pictures, and which distance does it best.

``python benchmarks/unlikeness.py MODEL --data EFIGI --fits FOLDER`` prints the area under the ROC curve (AUROC) of

- made-up faults of pictures of the validation part against the pictures themselves, for several distances: by this the
  distance was chosen;
- as many pictures of other things as there are galaxies in the test part, against these: crops of star fields, a
  nebula, empty sky, bleeding stars, radio and infrared images, masks, weights and raw frames in FOLDER, which holds
  folders of FITS files. They are tinted at random, since a model of coloured pictures finds grey ones too easily.

MODEL has a score of unlikeness (``galmorph models calibrate``), and EFIGI is what it was trained on.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from galmorph.models import unlikeness
from galmorph.models.model import load
from galmorph.models.predictor import Predictor
from galmorph.training import dataset as datasets
from galmorph.training.augmentation import plain_view
from galmorph.training.evaluation.evaluate import part_rows
from galmorph.training.evaluation.predicting import features

OTHERS = (
    *(
        "odd-nongalaxy/*.fits",
        "odd-astropy/m13_gzip.fits",
        "odd-astropy/comp.fits",
        "odd-astropy/dss*",
        "odd-ccdproc/a*",
    ),
    *(
        "odd-astropy/o4sp*",
        "wise-2mass-galex/*.fits",
        "decam-ccd-*/*.fits",
        "bass-mzls-ccd-grz/*.fits",
        "odd-fitsio/*.fz",
    ),
    *("odd-empty/*image.fits", "odd-fz-mask/*.fz", "gama-sdss-kids-r/*segim.fits", "ls-coadd-damaged/*.fz"),
)
NEIGHBOURS = 5


def auroc(likely: Tensor, unlikely: Tensor) -> float:
    """Return how often one of the second has a larger distance than one of the first."""
    ranks = torch.cat([likely, unlikely]).argsort().argsort().double() + 1
    n = len(unlikely)
    return float((ranks[len(likely) :].sum() - n * (n + 1) / 2) / (n * len(likely)))


def faults(rgb: Tensor, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield kinds of faults, and pictures (n, 3, y, x) that have them."""
    g = torch.Generator().manual_seed(seed)
    n, _, side, _ = rgb.shape
    noise = torch.randn(rgb.shape, generator=g)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    y, x = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    angle = 2 * torch.pi * draw(n, 1, 1, 1)
    yield "empty sky", (0.2 * draw(n, 3, 1, 1) + 0.01 * noise)
    yield "noise", 0.1 + 0.15 * draw(n, 1, 1, 1) * noise
    yield "cut off", torch.where(y > 0.3 + 0.4 * draw(n, 1, 1, 1), rgb, 0)
    yield "corner", torch.nn.functional.pad(rgb, (side // 2, 0, side // 2, 0))[..., :side, :side]
    yield "no band", rgb * (torch.arange(3)[None, :] != torch.arange(n)[:, None] % 3).view(n, 3, 1, 1)
    yield "lines lost", torch.where((torch.arange(side) % 4 == 0).view(side, 1), 0, rgb)
    yield "stripes", rgb + 0.4 * torch.sin(side / 2 * x)
    yield "saturated", 8 * rgb
    yield "negative", 1 - rgb
    yield "trail", 0.2 * rgb + torch.exp(-(((x - 0.5) * angle.cos() + (y - 0.5) * angle.sin()) ** 2) / 4e-4)
    pieces = rgb.unfold(2, side // 4, side // 4).unfold(3, side // 4, side // 4).flatten(2, 3)
    rows = pieces[:, :, torch.randperm(16, generator=g)].unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5)
    yield "shuffled", rows.reshape(n, 3, side // 4 * 4, side // 4 * 4)
    stars = 0.05 + 0.02 * noise
    for _ in range(25):
        spot = torch.exp(
            -((x - draw(n, 1, 1, 1)) ** 2 + (y - draw(n, 1, 1, 1)) ** 2) * side**2 / (1 + 6 * draw(n, 1, 1, 1))
        )
        stars = stars + 1.5 * draw(n, 1, 1, 1) * spot * (0.7 + 0.3 * draw(n, 3, 1, 1))
    yield "stars", stars


def others(folder: Path, n: int, side: int, seed: int = 0) -> Tensor:
    """Return pictures (n, 3, side, side) of things that are no galaxies, from as many files as there are."""
    from astropy.io import fits

    planes = []
    for path in sorted({path for pattern in OTHERS for path in folder.glob(pattern)}):
        with fits.open(path) as hdus:
            found = (
                h.data for h in hdus if h.is_image and h.data is not None and h.data.ndim == 2 and min(h.shape) >= 32
            )
            planes += [
                np.nan_to_num(np.asarray(plane[:1200, :1200], np.float32))
                for plane in [next(found, None)]
                if plane is not None
            ]
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(n):
        plane = planes[i % len(planes)]
        width = int(rng.integers(32, min(120, *plane.shape) + 1))
        top, left = (int(rng.integers(0, size - width + 1)) for size in plane.shape)
        piece = plane[top : top + width, left : left + width]
        sky = np.median(piece)
        scale = max(1.4826 * np.median(np.abs(piece - sky)), 1e-3 * np.ptp(piece), 1e-6)
        stretched = (np.arcsinh((piece - sky) / scale / 2) / 5 + 0.1).clip(0, 1).astype(np.float32)
        grey = np.asarray(Image.fromarray(stretched).resize((side, side), Image.Resampling.BILINEAR))
        pictures.append(grey * rng.uniform(0.5, 1.2, (3, 1, 1)).astype(np.float32))
    print(f"{n} crops of {len(planes)} images")
    return torch.from_numpy(np.stack(pictures)).clamp(0, 1)


def distances(train: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the distances that are compared, fitted to the features of the training part."""
    made: dict[str, Callable[[Tensor], Tensor]] = {}
    used = unlikeness.N_COMPONENTS
    for n in (16, 32, 64, 128, 256):
        unlikeness.N_COMPONENTS = n
        made[f"Mahalanobis, {n} components"] = unlikeness.fit(train)
    unlikeness.N_COMPONENTS = used
    space = unlikeness.fit(train)
    basis, mean, spread = space.basis.float(), space.mean.float(), space.variances[:-1].sqrt()
    places: dict[str, Callable[[Tensor], Tensor]] = {
        "whitened": lambda f: (f - mean) @ basis.T / spread,
        "plain": lambda f: (f - mean) @ basis.T,
        "directions": lambda f: torch.nn.functional.normalize((f - mean) @ basis.T, dim=1),
    }
    for name, place in places.items():
        known = place(train)
        made[f"neighbour {NEIGHBOURS}, {name}"] = lambda f, place=place, known=known: (
            torch.cdist(place(f), known).kthvalue(NEIGHBOURS, dim=1).values
        )
    return made


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--fits", type=Path, required=True)
    parser.add_argument("--faulty", type=int, default=64, help="Pictures of each fault.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the files are odd on purpose
    model = load(options.model)
    normalization = model.card.inputs[0].normalization
    data = datasets.load([options.data], model.schema, normalization.input_size, normalization.framing.radii)
    rows = {part: part_rows(model, data, part)[1] for part in ("train", "val", "test")}
    predictor = Predictor(model, dtype="float32")

    def of_pictures(pictures: Tensor) -> Tensor:
        batches = pictures.clamp(0, 1).split(64)
        return torch.cat(
            [predictor.network[0](normalization.network_input(b).to(predictor.device)).cpu() for b in batches]
        )

    own = {part: features(predictor, data, chosen) for part, chosen in rows.items()}
    made = distances(own["train"])
    plain = plain_view(data.batch(rows["val"][: options.faulty])[0], data.view, normalization.input_size)
    kinds = {kind: of_pictures(pictures) for kind, pictures in faults(plain)}
    print(f"made-up faults against {len(own['val'])} pictures of the validation part, AUROC")
    for name, distance in made.items():
        scores = {kind: auroc(distance(own["val"]), distance(found)) for kind, found in kinds.items()}
        least = min(scores, key=scores.__getitem__)
        print(f"  {name:28s} mean {np.mean(list(scores.values())):.4f}, least {scores[least]:.4f} ({least})")
    score, threshold = model.unlikeness, model.card.unlikeness_threshold
    flagged = np.mean([float((score(found) > threshold).float().mean()) for found in kinds.values()])
    print(f"  of them {flagged:.3f} are flagged by the model's own")
    foreign = of_pictures(others(options.fits, len(rows["test"]), normalization.input_size))
    known, unknown = score(own["test"]), score(foreign)
    print(f"test part against others: AUROC {auroc(known, unknown):.4f} ({len(known)} + {len(unknown)})")
    for name, values in (("galaxies", known), ("others", unknown)):
        print(
            f"  {name}: median {float(values.median()):.3f}, {float((values > threshold).float().mean()):.3f} flagged"
        )


if __name__ == "__main__":
    main()
