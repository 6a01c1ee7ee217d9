"""The cost of classifying many galaxies: storage, requests, core-hours and GPU-hours, from measured constants.

    python benchmarks/cost.py [--galaxies 1e9] [--side 256] [--ms 6.0] [--gpu-rate 0]

``--ms`` is the processor time of a galaxy from cutouts and ``--ms-planes`` that from planes, in milliseconds, as
``benchmarks/all.py`` prints them for a machine (1000 / "a processor s"). ``--gpu-rate`` is what ``benchmarks/gpu.py``
prints from planes; without it no GPU-hours are given.
"""

from __future__ import annotations

import argparse

from galmorph.classification.output_columns import output_columns, record_dtype
from galmorph.models.card import find, read_card
from galmorph.retrieval.options import FetchOptions

MODEL = "galaxyzoo2-mobilenet_v2"
BANDS, HEADER_BYTES, FLOAT_BYTES = 3, 5760, 4
WIDTHS = {"float32": 4, "float64": 8, "int16": 2, "int32": 4, "int64": 8, "bool": 1}


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=float, default=1e9)
    parser.add_argument("--side", type=int, default=256, help="Of a cutout, pixels.")
    parser.add_argument("--ms", type=float, required=True, help="Processor time of a galaxy from cutouts.")
    parser.add_argument("--ms-planes", type=float, help="From planes.")
    parser.add_argument("--gpu-rate", type=float, help="Galaxies a second of a GPU, from planes.")
    options = parser.parse_args()
    n = options.galaxies
    card = read_card(find(MODEL))
    columns = output_columns(card)
    row = sum(WIDTHS.get(column.dtype, column.width or 0) for column in columns)
    journal = record_dtype(card.label_schema).itemsize
    cutout = BANDS * options.side**2 * FLOAT_BYTES + HEADER_BYTES
    rate = FetchOptions().rate
    print(f"{n:.3g} galaxies, {MODEL}")
    print(f"cutouts of {options.side} px in {BANDS} bands: {n * cutout / 1e12:.1f} TB ({cutout} bytes each)")
    print(f"new columns: {n * row / 1e9:.0f} GB ({row} bytes a row); the journal of a run: {n * journal / 1e9:.0f} GB")
    years = n / rate / 86400 / 365.25
    print(f"requests, one a cutout: {n:.3g}; at {rate:g} a second {years:.1f} years: take the bricks")
    print(f"from cutouts: {n * options.ms / 3.6e6:.0f} core-hours")
    if options.ms_planes:
        print(f"from planes: {n * options.ms_planes / 3.6e6:.0f} core-hours")
    if options.gpu_rate:
        print(f"from planes: {n / options.gpu_rate / 3600:.1f} GPU-hours")


if __name__ == "__main__":
    main()
