"""The demo does the main job offline."""

import numpy as np
from astropy.table import Table

from galmorph.classification.classify import classify
from galmorph.cli.demo import GALAXIES, demo, light


def test_demo_classifies_what_it_made(tmp_path):
    result = demo(tmp_path / "demo")
    table = Table.read(tmp_path / "demo" / "targets_morph.fits")
    assert len(table) == len(GALAXIES) == len(result.rows)
    assert result.summary.classified == len(GALAXIES)
    assert (tmp_path / "demo" / "galaxies.png").stat().st_size > 100_000
    p = {name.removeprefix("p_"): np.asarray(table[name]) for name in table.colnames if name.startswith("p_")}
    kinds = np.array([galaxy.kind for galaxy in GALAXIES])
    smooth = np.isin(kinds, ["smooth, round", "smooth, in between"])
    spiral = np.array([kind.startswith("spiral") for kind in kinds])
    edge_on = np.array(["edge-on" in kind for kind in kinds])
    # A model that works tells these apart on average, though no made-up galaxy is quite like a real one.
    assert p["smooth_or_featured_smooth"][smooth].mean() > p["smooth_or_featured_smooth"][spiral].mean() + 0.3
    assert p["has_spiral_arms_yes"][spiral].mean() > p["has_spiral_arms_yes"][~spiral].mean() + 0.2
    assert p["disk_edge_on_yes"][edge_on].mean() > p["disk_edge_on_yes"][spiral].mean() + 0.3


def test_demo_runs_again_over_itself(tmp_path):
    for _ in range(2):
        demo(tmp_path, galaxies=GALAXIES[:1])
    assert len(Table.read(tmp_path / "targets_morph.fits")) == 1


def test_light_adds_up_to_the_magnitude():
    for galaxy in GALAXIES:
        flux = light(galaxy, 256, 0.262)["r"].sum()
        assert 22.5 - 2.5 * np.log10(flux) < galaxy.mag_r + 0.1


def test_shipped_model_agrees_with_itself_across_dtypes_and_batches(tmp_path):
    demo(tmp_path)
    results = {}
    for dtype, batch_size in (("float32", 64), ("float32", 5), ("bfloat16", 64), ("bfloat16", 5)):
        out = tmp_path / f"{dtype}{batch_size}.fits"
        classify(tmp_path / "targets.fits", out=out, dtype=dtype, batch_size=batch_size)
        table = Table.read(out)
        results[dtype, batch_size] = np.array([table[n] for n in table.colnames if n.startswith("p_")])
    reference = results["float32", 64]
    assert np.abs(results["float32", 5] - reference).max() < 1e-5
    assert np.abs(results["bfloat16", 64] - reference).max() < 0.02
    assert np.abs(results["bfloat16", 5] - results["bfloat16", 64]).max() < 0.01
