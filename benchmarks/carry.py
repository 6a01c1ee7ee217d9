"""Makes the folder that a machine without internet needs for the GPU benchmark and the training there.

    python benchmarks/carry.py packages --out .carried [--python 3.12] [--has numpy,torch,torchvision,pillow]
    python benchmarks/carry.py weights --from resnet50.imagenet-lower.fp16.safetensors --out resnet50.safetensors
    python benchmarks/carry.py pictures --out .carried --schema galaxyzoo2 --data PATH [--data PATH] [--galaxies 20000]

``weights`` completes ResNet50's lower layers by fresh upper ones, so that ``--pretrained`` takes them. ``packages``
fetches the wheels that galmorph needs and that machine lacks, for its Python, and unpacks them into ``OUT/packages``,
to be named in PYTHONPATH. ``pictures`` reads samples as `galmorph train` does and writes ``OUT/pictures.tar``, of 40
MiB at most: a folder with ``labels.csv`` and each galaxy's picture as WebP; it prints how wide they are. There:

    tar -xf .carried/pictures.tar -C /tmp
    PYTHONPATH=$PWD:.carried/packages python -c "from galmorph.cli import main; main()" train --schema galaxyzoo2 \\
        --data /tmp/pictures:width_r90=8.48 --backbone resnet50 --input-size 224 --pretrained resnet50.safetensors
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
import tarfile
from pathlib import Path

MAX_BYTES = 40 * 2**20
RADII = 5.12  # the width that a network of the default recipe sees


def packages(out: Path, python: str, present: set[str]) -> None:
    """Unpack the wheels of what is missing there."""
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    wanted = [text for text in project["dependencies"] if Requirement(text).name.lower() not in present]
    target = out / "packages"
    platform = ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), "--python-version", python]
    subprocess.run([*command, *platform, *wanted], check=True)
    for name in present:  # a dependency of a dependency, which is there already
        for path in [*target.glob(f"{name}*"), *target.glob("nvidia*"), *target.glob("triton*")]:
            subprocess.run(["rm", "-r", "--", str(path)], check=False)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 2**20:.1f} MiB")


def pictures(out: Path, schema_name: str, data: list[str], n_galaxies: int, side: int, quality: int) -> None:
    """Write pictures and labels of galaxies drawn at random."""
    import numpy as np
    from PIL import Image

    from galmorph import registry
    from galmorph.training.dataset import load

    schema = registry.load("schemas", schema_name)
    dataset = load(data, schema, side, RADII)
    chosen = np.random.default_rng(0).permutation(len(dataset))[:n_galaxies]
    out.mkdir(parents=True, exist_ok=True)
    path, rows = out / "pictures.tar", io.StringIO()
    table = csv.writer(rows)
    table.writerow(["id", "file", *schema.labels])
    with tarfile.open(path, "w") as archive:
        written = 0
        for row in sorted(chosen):
            picture = io.BytesIO()
            rgb = np.ascontiguousarray(dataset.images[row].transpose(1, 2, 0))
            Image.fromarray(rgb).save(picture, "WEBP", quality=quality)
            if written + len(picture.getvalue()) > MAX_BYTES - 2**22:  # the table follows
                break
            written += -(-len(picture.getvalue()) // 512) * 512 + 512
            add(archive, f"pictures/{row}.webp", picture.getvalue())
            cells = ["" if value != value else f"{value:.4f}" for value in dataset.fractions[row].tolist()]
            table.writerow([dataset.galaxies[row], f"{row}.webp", *cells])
        add(archive, "pictures/labels.csv", rows.getvalue().encode())
    n = rows.getvalue().count("\n") - 1
    print(f"{path}: {n} galaxies of {dataset.images.shape[-1]} px, {path.stat().st_size / 2**20:.1f} MiB")
    print(f"train --data FOLDER:width_r90={dataset.framing.radii / dataset.view:.4g}")


def weights(source: Path, out: Path) -> None:
    """Write ResNet50's weights, those layers fresh that the file lacks."""
    import torch
    from safetensors.torch import load_file, save_file

    from galmorph import registry

    torch.manual_seed(0)
    state = registry.load("backbones", "resnet50").build(1000).state_dict()
    given = {name: value.float() for name, value in load_file(source).items() if name in state}
    save_file({**state, **given}, out)
    print(f"{out}: {len(given)} of {len(state)} tensors are of {source.name}")


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["packages", "pictures", "weights"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", type=Path, dest="given", help="Weights of ResNet50 without its last layers.")
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--has", default="numpy,torch,torchvision,pillow")
    parser.add_argument("--schema", default="galaxyzoo2")
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--galaxies", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128, help="Of what the network sees; the pictures are wider.")
    parser.add_argument("--quality", type=int, default=70, help="Of WebP.")
    options = parser.parse_args()
    if options.what == "weights":
        weights(options.given, options.out)
    elif options.what == "packages":
        packages(options.out, options.python, set(options.has.split(",")))
    else:
        pictures(options.out, options.schema, options.data, options.galaxies, options.side, options.quality)


if __name__ == "__main__":
    main()
