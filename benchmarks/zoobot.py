"""``galmorph classify`` beside Zoobot's ``predict_on_catalog``: the same ResNet50, the same galaxies, the same machine.

Zoobot (GPL) is never imported here: it lies in a virtual environment of its own and runs as a program of its own.

    python -m venv .venv-zoobot && .venv-zoobot/bin/pip install zoobot lightning timm
    python benchmarks/zoobot.py [--targets 256] [--rounds 2] [--cores 2] [--zoobot .venv-zoobot/bin/python]

Both start from files on disk, of the same galaxies. galmorph reads FITS cubes of 256 px (float32, three bands, 0.8 MB),
frames, stretches and classifies them. Zoobot does not read such cubes, so it gets what galmorph's network sees: the
framed, stretched picture of 224 px as an 8-bit PNG file, which is the lighter task of the two; it is cropped to 224 px,
which is none. Zoobot computes in float32, galmorph as ``--dtype auto`` says. The network has made-up weights, with
normalisations that fit the pictures and a head whose logits spread over them, so that rounding shows.

Counted are the calls alone, without starting Python: ``classify`` with reading the model and writing the table,
``predict`` with a model that is in memory and the table it writes. Processor seconds are those of all processes and
threads; their ratio is the better one on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from classify import made_survey
from PIL import Image

from galmorph.classification.prepare import prepare
from galmorph.cli import demo
from galmorph.images.framing import Framing
from galmorph.models.card import ModelCard, survey_inputs
from galmorph.models.model import Model, build, save

SIDE_PX, INPUT_SIZE, N_FITTED = 256, 224, 48
LOGIT_SPREAD = 3.0  # of the first component
BLOCK_SHARE = 0.2

_TIMED = """
import json, resource, sys, time

def timed(call):
    def used():
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)
    cpu, started = used(), time.perf_counter()
    call()
    print(json.dumps({"wall": time.perf_counter() - started, "cpu": used() - cpu}))
"""

GALMORPH = (
    _TIMED
    + """
from galmorph import classify

dtype, cores = sys.argv[1], int(sys.argv[2])
options = {"model": "model.safetensors", "out": "galmorph.fits", "overwrite": True}
timed(lambda: classify("targets.fits", dtype=dtype, workers=cores, **options))
"""
)

ZOOBOT = (
    _TIMED
    + """
import pandas, timm
import torch
from galaxy_datasets.transforms import fast_view_config, get_galaxy_transform
from zoobot.pytorch.predictions import predict_on_catalog
from zoobot.pytorch.training.finetune import FinetuneableZoobotClassifier

state = torch.load("state.pt", weights_only=True)
encoder = timm.create_model("resnet50", num_classes=0)
encoder.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})
model = FinetuneableZoobotClassifier(encoder=encoder, num_classes=10)
model.head.linear.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
model.eval()
cores = int(sys.argv[2])
timed(lambda: predict_on_catalog.predict(
    pandas.read_csv("pictures.csv", dtype=str),
    model,
    save_loc="zoobot.csv",
    label_cols=[str(i) for i in range(10)],
    inference_transform=get_galaxy_transform(fast_view_config()),
    datamodule_kwargs={"batch_size": 64, "num_workers": cores if cores > 1 else 0},
    trainer_kwargs={"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
))
"""
)


def made_model(folder: Path, table: Path) -> Model:
    """Write the galaxies' pictures as the network sees them, and a model for them, for both programs."""
    torch.manual_seed(0)
    framing = Framing(size_arcsec=INPUT_SIZE * demo.PIXSCALE)
    inputs = survey_inputs(INPUT_SIZE, framing, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    card = ModelCard(name="benchmark", backbone="resnet50", schema="galaxy10_decals", inputs=inputs)
    model = Model(card, build("resnet50", 10))
    paths, pictures = [], []
    for number, name in enumerate(fits.getdata(table)["cutout"]):
        target = prepare(folder / name, model.card, 8.0)
        rgb = inputs[0].normalization.rgb(torch.as_tensor(target.flux)[None])[0]
        picture = (rgb * 255).round().byte().permute(1, 2, 0).numpy()
        paths.append(folder / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
        if number < N_FITTED:
            pictures.append(rgb)
    pd.DataFrame({"id_str": range(len(paths)), "file_loc": paths}).to_csv(folder / "pictures.csv", index=False)
    fit(model.network, torch.stack(pictures))
    save(model, folder / "model.safetensors", half=False)
    torch.save(model.network.state_dict(), folder / "state.pt")
    return model


@torch.no_grad()
def fit(network: torch.nn.Module, pictures: torch.Tensor) -> None:
    """Give the normalisations the statistics of some pictures, and the logits their principal components.

    As in trained networks each block adds little to what goes past it, and the head looks where pictures differ; a
    network without that turns the rounding of a picture to 8 bits into any probability.
    """
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
            if name.endswith("bn3"):
                module.weight.fill_(BLOCK_SHARE)
    head, network.fc = network.fc, torch.nn.Identity()
    network.train()(pictures)
    features = network.eval()(pictures)
    network.fc = head
    _, sizes, components = torch.linalg.svd(features - features.mean(dim=0), full_matrices=False)
    head.weight.copy_(components[:10] * LOGIT_SPREAD * len(pictures) ** 0.5 / sizes[0])
    head.bias.copy_(-head.weight @ features.mean(dim=0))


def run(python: str, code: str, dtype: str, cores: int, folder: Path) -> dict[str, float]:
    """Run a program in the folder and return its wall and processor seconds."""
    settings = {**os.environ, "OMP_NUM_THREADS": str(cores)}
    command = [python, "-c", code, dtype, str(cores)]
    done = subprocess.run(command, cwd=folder, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--zoobot", default=".venv-zoobot/bin/python", help="The Python that has zoobot.")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="Threads and workers of both; 1: one thread.")
    options = parser.parse_args()
    n_targets = options.targets
    zoobot = str(Path(options.zoobot).absolute())  # not resolved: the link is what tells Python its environment
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = made_survey(folder, n_targets, SIDE_PX, radius=True)
        made_model(folder, table)
        programs = {
            "zoobot": (zoobot, ZOOBOT, "float32"),
            "galmorph float32": (sys.executable, GALMORPH, "float32"),
            "galmorph": (sys.executable, GALMORPH, "auto"),
        }
        times: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
        for _ in range(options.rounds):
            for name, program in programs.items():
                times[name].append(run(*program, options.cores, folder))
        ours = fits.getdata(folder / "galmorph.fits")
        p = np.column_stack([ours[name] for name in ours.names if name.startswith("p_")])
        expected = pd.read_csv(folder / "zoobot.csv").iloc[:, :10].to_numpy()
    best = {name: {key: min(run[key] for run in runs) for key in ("wall", "cpu")} for name, runs in times.items()}
    print(f"{n_targets} galaxies, {options.cores} cores; the best of {options.rounds} rounds")
    print("program           images/s  images/processor s  faster by wall  by processor time")
    for name, used in best.items():
        ratios = [best["zoobot"][key] / used[key] for key in ("wall", "cpu")]
        print(
            f"{name:17s} {n_targets / used['wall']:8.1f} {n_targets / used['cpu']:19.1f} {ratios[0]:15.2f} "
            f"{ratios[1]:18.2f}"
        )
    spread = expected.std(axis=0).mean()
    print(f"probabilities: they differ by {abs(p - expected).max():.4f} at most; each spreads by {spread:.3f} (sigma)")


if __name__ == "__main__":
    main()
