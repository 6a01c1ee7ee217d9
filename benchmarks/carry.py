"""Makes the folder that a machine without internet needs for the GPU benchmark and the training there.

    python benchmarks/carry.py packages --out .carried [--python 3.12]
    python benchmarks/carry.py weights --from resnet50.imagenet-lower.fp16.safetensors --out resnet50.safetensors
    python benchmarks/carry.py pictures --out .carried --schema galaxyzoo2 --data PATH [--data PATH] [--galaxies 20000]

``weights`` completes ResNet50's lower layers by fresh upper ones, so that ``--pretrained`` takes them. ``packages``
fetches the wheels that `classify` and `train` need and that a machine with PyTorch, SciPy, pandas and matplotlib lacks,
for its Python, and packs them without their tests into ``OUT/packages.tar.xz``. ``pictures`` reads samples as
`galmorph train` does and writes ``OUT/pictures.tar``, of 40 MiB at most: a folder with ``labels.csv`` and each galaxy's
picture as WebP; it prints how wide they are. There:

    tar -xf .carried/packages.tar.xz -C /tmp; tar -xf .carried/pictures.tar -C /tmp
    PYTHONPATH=$PWD:/tmp/packages python -c "from galmorph.cli import main; main()" train --schema galaxyzoo2 \\
        --data /tmp/pictures:width_r90=8.48 --backbone resnet50 --input-size 224 --pretrained resnet50.safetensors
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

MAX_BYTES = 40 * 2**20
RADII = 5.12  # the width that a network of the default recipe sees


# What `classify` and `train` import beside what comes with PyTorch, SciPy, pandas and matplotlib.
PACKAGES = (
    *("astropy", "pyerfa", "astropy-iers-data", "sep", "sniffio", "tenacity"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection"),
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
UNUSED = {"tests", "__pycache__"}


def packages(out: Path, python: str) -> None:
    """Pack the wheels of what is missing there."""
    wheels = {"--only-binary": ":all:", "--python-version": python, "--implementation": "cp"}
    options = [text for option in wheels.items() for text in option]
    options += [text for platform in PLATFORMS for text in ("--platform", platform)]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "packages.tar.xz"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", folder]
        # The versions of this environment, which agree with one another.
        pinned = [f"{name}=={version(name)}" for name in PACKAGES]
        subprocess.run([*command, *options, *pinned], check=True)

        def used(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
            return None if UNUSED & set(Path(entry.name).parts) and "astropy/tests" not in entry.name else entry

        with tarfile.open(path, "w:xz") as archive:
            archive.add(folder, "packages", filter=used)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


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
    parser.add_argument("--schema", default="galaxyzoo2")
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--galaxies", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128, help="Of what the network sees; the pictures are wider.")
    parser.add_argument("--quality", type=int, default=70, help="Of WebP.")
    options = parser.parse_args()
    if options.what == "weights":
        weights(options.given, options.out)
    elif options.what == "packages":
        packages(options.out, options.python)
    else:
        pictures(options.out, options.schema, options.data, options.galaxies, options.side, options.quality)


if __name__ == "__main__":
    main()
