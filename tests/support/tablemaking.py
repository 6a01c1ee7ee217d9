"""What the tests of table formats share: columns to append, their values, outside programs that judge the result."""

import csv
import itertools
import re
import shutil
import subprocess

import numpy as np
import pytest

from galmorph.tables.catalog import Column, open_catalog

PROBABILITY = Column(
    "p_spiral", "float32", "", "stat.probability;src.morph.type", "Probability that the galaxy has spiral arms"
)
FLAG = Column("morph_flag", "int16", "", "meta.code.qual", "What is wrong with the cutout")
LABEL = Column("morph_label", "str", description="The most probable class", width=8)
COLUMNS = (PROBABILITY, FLAG, LABEL)
CARDS = (("GMMODEL", "galaxyzoo2-mobilenet_v2", "model"), ("GMBATCH", 64, "batch size"))


def values(n, start=0):
    """Values of COLUMNS for rows `start` to `n`; the first probability is NaN."""
    row = np.arange(start, n)
    return {
        "p_spiral": np.where(row == 0, np.nan, row / 7).astype(np.float32),
        "morph_flag": (row % 5).astype(np.int16),
        "morph_label": np.array([f"class{i % 3}" for i in row], dtype=object),
    }


def append(path, destination, columns=COLUMNS, n_blocks=2, **options):
    """Append COLUMNS to a table in blocks of unequal lengths; return the opened result."""
    catalog = open_catalog(path)
    edges = np.linspace(0, catalog.n_rows, n_blocks + 1).astype(int) // 2 * 2
    edges[-1] = catalog.n_rows
    blocks = (values(stop, start) for start, stop in itertools.pairwise(edges))
    catalog.append(destination, columns, blocks, **{"cards": CARDS, **options})
    return open_catalog(destination)


def program(name):
    """Skip the test where a program is absent."""
    if shutil.which(name) is None:
        pytest.skip(f"the program {name} is not installed")
    return name


def fitsverify(path):
    """The warnings and errors of fitsverify, sorted."""
    run = subprocess.run([program("fitsverify"), str(path)], capture_output=True, text=True, check=False)
    messages = re.findall(r"^\*\*\* .*(?:\n {4,}.*)*", run.stdout + run.stderr, re.MULTILINE)
    return sorted(" ".join(message.split()) for message in messages)


def stilts_meta(path):
    """Name -> (units, description, UCD) of the columns as STILTS reads them."""
    return {
        row["Name"]: (row["Units"], row["Description"], row["UCD"])
        for row in stilts(path, "meta name units description ucd")
    }


def stilts(path, command, form="(auto)"):
    """The rows of a table as STILTS reads them, after a command, as text."""
    arguments = [program("stilts"), "tpipe", f"in={path}", f"ifmt={form}", f"cmd={command}", "omode=out", "ofmt=csv"]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return list(csv.DictReader(run.stdout.splitlines()))
