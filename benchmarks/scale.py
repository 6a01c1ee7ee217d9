"""Memory and time of ``galmorph classify`` by the number of rows, and of appending columns to a large FITS table.

    python benchmarks/scale.py rows [--rows 1000000] [--few 10000] [--prepared]
    python benchmarks/scale.py append [--rows 10000000]

``rows`` classifies a long and a short catalog, each in a process of its own, whose rows share 100 cutouts, with a
network of one layer, and prints the ratios of peak memory (bound: 1.2) and of time a row (bound: 1.1), by the clock and
by the processor: on a busy machine only the latter tells what the program takes. Imports and the model are not counted.
With ``--prepared`` the cutouts are read once, so that what is left is what galmorph does with a row besides; it is a
stricter test, and quick.

``append`` does the last step of a run, from the journal to the table, for a table with 30 columns, and prints its time
over that of writing a file of the output's size, synced (bound: 3). It needs some 1 GB of disk for a million rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from usage import peak_mb, processor_s

CUTOUTS = 100
SIDE_PX = 64
BLOCK = 16_384
CHUNK = 1 << 20


def cutouts(folder: Path) -> None:
    """Write the cutouts that the rows share: the drawn galaxies of the demo with fresh noise."""
    from galmorph.cli import demo
    from galmorph.images.cutout import Cutout, write_cutout

    generator = np.random.default_rng(0)
    kinds = [demo.light(galaxy, SIDE_PX, demo.PIXSCALE) for galaxy in demo.GALAXIES]
    for i in range(CUTOUTS):
        planes = [
            kinds[i % len(kinds)][band] + generator.normal(0, demo.NOISE[band], (SIDE_PX, SIDE_PX)) for band in "grz"
        ]
        flux = np.stack(planes).astype(np.float32)
        # Without a WCS: they stand for the positions of any row.
        made = Cutout(str(i), "decals", ("g", "r", "z"), flux, demo.PIXSCALE, demo.PIXSCALE)
        write_cutout(made, folder / f"{i}.fits")


def catalog(path: Path, n_rows: int) -> Path:
    """Write a catalog whose rows take the cutouts in turn."""
    from galmorph.tables.catalog import Column, write_catalog

    columns = [Column("objid", "int64"), Column("ra", "float64", "deg"), Column("dec", "float64", "deg")]
    columns += [Column("petroR90_r", "float32", "arcsec"), Column("cutout", "str", width=8)]

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for first in range(0, n_rows, BLOCK):
            row = np.arange(first, min(first + BLOCK, n_rows))
            paths = np.array([f"{i % CUTOUTS}.fits" for i in row.tolist()], dtype=object)
            radius = np.full(len(row), 2.5, np.float32)
            yield {
                "objid": row,
                "ra": row * 3.6e-5 % 360,
                "dec": row % 60 - 30.0,
                "petroR90_r": radius,
                "cutout": paths,
            }

    write_catalog(path, columns, blocks(), n_rows)
    return path


def model() -> object:
    """Return a model whose network is one layer."""
    import torch

    from galmorph.images.framing import Framing
    from galmorph.models.card import ModelCard, survey_inputs
    from galmorph.models.model import Model

    torch.manual_seed(0)
    card = ModelCard(
        "one layer", "mobilenet_v2", "galaxyzoo2", survey_inputs(32, Framing(radii=5.12), (0.5,) * 3, (0.5,) * 3)
    )
    head = torch.nn.Sequential(torch.nn.Dropout(0.0), torch.nn.Linear(48, 37))  # named as the backbone's own
    layers = {"pool": torch.nn.AdaptiveAvgPool2d(4), "flat": torch.nn.Flatten(), "classifier": head}
    network = torch.nn.Sequential(OrderedDict(layers))
    return Model(card, network.eval(), sha256="0" * 64)


def classified(table: str, first: str, prepared: str) -> dict[str, float]:
    """Classify a catalog after a first, short one, which has everything imported and warm."""
    from galmorph.classification import classify as classification
    from galmorph.classification.reading import readers, rows

    ready = model()
    classification.load = lambda name: ready
    if prepared == "True":
        read, made = rows.prepare, {}

        def once(path: Path, *arguments: object, **options: object) -> object:
            if path not in made:
                made[path] = read(path, *arguments, **options)
            return made[path]

        rows.prepare = once
        readers.MIN_ROWS = sys.maxsize  # processes would read anew
    options = {"device": "cpu", "dtype": "float32", "overwrite": True}
    classification.classify(first, **options)
    used, begin = processor_s(), time.perf_counter()
    summary = classification.classify(table, **options)
    seconds, used = time.perf_counter() - begin, processor_s() - used
    return {
        "rows": summary.classified,
        "seconds": seconds,
        "processor_s": used,
        "peak_mb": peak_mb(),
        **summary.profile,
    }


def child(*arguments: object) -> dict[str, float]:
    """Classify in a fresh process and return what it prints."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def rows(many: int, few: int, *, prepared: bool) -> dict[str, float]:
    """Print memory and time a row of a long and a short catalog, and return the ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cutouts(folder)
        warm = catalog(folder / "warm.fits", 320)
        # The short one before and after: the load of the machine may change meanwhile.
        done = [child(catalog(folder / f"{n}.fits", n), warm, prepared) for n in (few, many, few)]
    for run in done:
        each = [1e6 * run[which] / run["rows"] for which in ("seconds", "processor_s")]
        print(
            f"{run['rows']:9.0f} rows: {run['peak_mb']:.0f} MB, {each[0]:.0f} us a row by the clock, "
            f"{each[1]:.0f} us of processors",
            flush=True,
        )
    before, long, after = done
    ratios = {"memory": long["peak_mb"] / max(before["peak_mb"], after["peak_mb"])}
    for name, which in (("clock", "seconds"), ("processor", "processor_s")):
        short = (before[which] / before["rows"] + after[which] / after["rows"]) / 2
        ratios[name] = long[which] / long["rows"] / short
    print(f"peak memory: ratio {ratios['memory']:.2f} (bound: 1.2)")
    print(f"time a row: ratio {ratios['clock']:.2f} by the clock, {ratios['processor']:.2f} by processors (bound: 1.1)")
    return ratios


def wide_table(path: Path, n_rows: int) -> None:
    """Write a FITS table with 30 columns, 196 bytes a row, as a survey's catalog has them."""
    from astropy.io import fits

    types = [("OBJID", ">i8"), ("RA", ">f8"), ("DEC", ">f8"), ("BRICKNAME", "S8"), ("TYPE", "S3"), ("cutout", "S21")]
    types += [(f"FLUX_{i}", ">f4") for i in range(12)] + [(f"SHAPE_{i}", ">f8") for i in range(8)]
    types += [("MASKBITS", ">i4"), ("NOBS", ">i2"), ("SERSIC", ">f4"), ("FLAG", ">i2")]
    generator = np.random.default_rng(0)
    dtype = np.dtype(types)
    width = dtype.itemsize
    block = generator.integers(0, 256, (BLOCK, width), np.uint8).view(dtype).reshape(-1)
    for name in ("BRICKNAME", "TYPE", "cutout"):
        block[name] = b"0001p000"[: dtype[name].itemsize]
    header = fits.BinTableHDU(block[:0]).header
    header["NAXIS2"] = n_rows
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
        for first in range(0, n_rows, BLOCK):
            file.write(block[: n_rows - first].tobytes())
        file.write(bytes(-(n_rows * width) % 2880))
        os.fsync(file.fileno())


def plain_write(path: Path, n_bytes: int) -> tuple[float, float]:
    """Return the seconds of the clock and of the processor that writing so many bytes, synced, takes."""
    chunk = np.random.default_rng(0).bytes(CHUNK)
    begin, used = time.perf_counter(), processor_s()
    with path.open("wb") as file:
        for start in range(0, n_bytes, CHUNK):
            file.write(chunk[: n_bytes - start])
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begin
    path.unlink()
    return seconds, processor_s() - used


def append(n_rows: int) -> dict[str, float]:
    """Print the time of a run's last step over that of writing as many bytes, and return the ratio."""
    from galmorph.classification import classify as classification
    from galmorph.classification.opening import open_source
    from galmorph.classification.options import ClassifyOptions
    from galmorph.classification.output_columns import output_columns, record_dtype
    from galmorph.classification.sources import Addition
    from galmorph.files.journal import Journal
    from galmorph.models.predictor import Predictor

    predictor = Predictor(model(), "cpu", "float32")
    schema = predictor.model.schema
    columns, record = output_columns(predictor.model.card), record_dtype(schema)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=".") as name:
        table, out = Path(name, "table.fits"), Path(name, "out.fits")
        wide_table(table, n_rows)
        source = open_source(table)
        with Journal.open(out, record, {}, resume=False, step=BLOCK) as journal:
            block = np.zeros(BLOCK, record)
            for first in range(0, n_rows, BLOCK):
                for part in schema.slices:
                    shares = generator.random((BLOCK, part.stop - part.start), np.float32)
                    block["p"][:, part] = shares / shares.sum(axis=1, keepdims=True)
                journal.append(block[: n_rows - first])
            added = Addition(columns, [])
            os.sync()
            begin, used = time.perf_counter(), processor_s()
            classification._write(source, out, added, journal, predictor, ClassifyOptions())
            seconds, used = time.perf_counter() - begin, processor_s() - used
            journal.remove()
        n_bytes = out.stat().st_size
        out.unlink()
        os.sync()
        bare, bare_used = plain_write(out, n_bytes)
    print(f"{n_rows} rows of 30 columns: {len(columns)} columns appended, the output has {n_bytes / 1e9:.2f} GB")
    print(f"{seconds:.1f} s ({used:.1f} s of processors)")
    print(f"{bare:.1f} s ({bare_used:.1f} s of processors) for a plain file of that size, synced")
    print(f"ratio {seconds / bare:.2f} (bound: 3)")
    return {"ratio": seconds / bare, "seconds": seconds, "processor_s": used}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(classified(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rows", "append"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--prepared", action="store_true")
    options = parser.parse_args()
    if options.what == "rows":
        rows(options.rows or 1_000_000, options.few, prepared=options.prepared)
    else:
        append(options.rows or 10_000_000)


if __name__ == "__main__":
    main()
