"""What commands do on a disk that is full, and again once it has room; run by ``unshare -m`` as root, in an empty one.

Prints a line of JSON for each trial: name, kilobytes, the exit code on the full disk, the lines it printed as errors,
the files that it left, the exit code with room, and whether the files are then those of a run without trouble.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path

from distributed import Client, LocalCluster
from hatsmaking import targets, write_hats
from made import cutout_folder, galaxy10_file, model_file
from results_made import results

from galmorph.classification.hats import classify_hats
from galmorph.cli import app, console
from galmorph.errors import GalmorphError

DISK = Path("disk").absolute()


def mounted(*options: str) -> None:
    subprocess.run(["mount", *options, DISK], check=True)


def command(*words: str) -> tuple[int, str]:
    console.stderr.file = said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = app.app(args=words, prog_name="galmorph", standalone_mode=False) or 0
        except Exception as error:
            code = app.exit_code_of(error)
    return code, said.getvalue()


def training(*words: str) -> tuple[int, str]:
    return command(*words, *(["--resume"] if Path("disk/run/config.json").exists() else []))


def hats() -> tuple[int, str]:
    try:
        classify_hats("hats", model="m.safetensors", cutouts=".", client=CLIENT, out="disk/o", **COMPUTING)
    except GalmorphError as error:
        return error.exit_code, f"error: {error}"
    return 0, ""


def files() -> dict[str, bytes]:
    return {str(path.relative_to(DISK)): path.read_bytes() for path in DISK.rglob("*") if path.is_file()}


def trials(name: str, sizes: tuple[int, ...], run, *arguments: str, compare: tuple[str, ...] = ()) -> None:
    mounted("-t", "tmpfs", "x")
    code, said = run(*arguments)
    assert code == 0, (name, said)
    wanted = files()
    subprocess.run(["umount", "-l", DISK], check=True)
    for kilobytes in sizes:
        mounted("-t", "tmpfs", "-o", f"size={kilobytes}k", "x")
        full, said = run(*arguments)
        left = sorted(files())
        mounted("-o", "remount,size=200m")
        again, _ = run(*arguments)
        found = files()
        same = found.keys() == wanted.keys() and all(
            found[file] == content for file, content in wanted.items() if file.endswith(compare)
        )
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        line = {"name": name, "kilobytes": kilobytes, "full": full, "errors": errors, "left": left, "again": again}
        print(json.dumps(line | {"same": same}), flush=True)
        subprocess.run(["umount", "-l", DISK], check=True)


COMPUTING = {"device": "cpu", "dtype": "float32", "batch_size": 4}
OPTIONS = ["--model", "m.safetensors", "--device", "cpu", "--dtype", "float32", "--batch-size", "4"]
DISK.mkdir()
model_file(Path("m.safetensors"))
cutout_folder(Path("cutouts"), n=10, side=40, wcs=False)
rows = "".join(f"g{i},cutouts/g{i % 10}.fits,{'x' * 500}\n" for i in range(40))
Path("t.csv").write_text(f"id,cutout,note\n{rows}")
results(Path("r.csv"), n=12)
galaxy10_file(Path("g.h5"), n=40)
write_hats(Path("hats"), targets(12))

tables = (".csv", ".parquet", ".fits", ".npy", ".json")
trials("classify", (4, 32), command, "classify", "t.csv", "--out", "disk/o.csv", *OPTIONS, compare=tables)
words = ("classify", "t.csv", "--out", "disk/o.parquet", "--features", "disk/f.npy", *OPTIONS)
trials("features", (60, 180), command, *words, compare=tables)
trials("select", (8,), command, "select", "r.csv", "ra > 1", "--out", "disk/s.fits", compare=tables)
trials("report", (8,), command, "report", "r.csv", "--out", "disk/r.html", "--regions", "disk/r.reg")
words = ("--data", "g.h5", "--schema", "galaxy10_sdss", "--backbone", "mobilenet_v3_small", "--pretrained", "none")
words += ("--input-size", "32", "--epochs", "1", "--device", "cpu", "--dtype", "float32", "--out", "disk/run")
trials("train", (16_000,), training, "train", *words, compare=("model.safetensors", "split.csv"))
with (
    LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
    Client(cluster) as CLIENT,
):
    trials("hats", (40, 124), hats, compare=("0.parquet", "partition_info.csv"))
