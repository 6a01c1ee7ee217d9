"""Which galaxies of the Galaxy Zoo challenge a default model must not see: those of the test part of another sample.

``python benchmarks/held_back.py SAMPLE --schema galaxy10_sdss [--seed 0] > exclude.csv`` writes, for ``galmorph train
--exclude exclude.csv``, the key of each galaxy of the test part of a labelled sample as `galmorph train` splits it by
that seed. Keys are those that twins in other samples share (``same_galaxies.csv``, ``twins_in_challenge.csv``).
"""

from __future__ import annotations

import argparse
import csv
import sys

from galmorph import registry
from galmorph.training.config import configure
from galmorph.training.reading import read_sample


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample")
    parser.add_argument("--schema", required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    schema = registry.load("schemas", args.schema)
    sample = read_sample(args.sample, schema)
    split = configure("default", [args.sample], args.schema, "mobilenet", seed=args.seed).split
    classes = schema.classes(sample.fractions)
    split = split.fitted(list(sample.galaxies), classes, len(schema.questions[0].answers))
    parts = split.parts(list(sample.galaxies), classes)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["galaxy"])
    writer.writerows([galaxy] for galaxy in sorted(set(sample.galaxies[parts == "test"])))


if __name__ == "__main__":
    main()
