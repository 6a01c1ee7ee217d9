"""More columns and fewer: shares among those who are asked, chosen columns, and the features as a file."""

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from made import cutout_folder, model_file
from pyarrow import parquet as pq
from typer.testing import CliRunner

from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.classification.prepare import prepare
from galmorph.classification.results import read_results
from galmorph.cli.app import app
from galmorph.errors import Interrupted, ModelError, OutputError
from galmorph.models.model import load
from galmorph.models.predictor import Predictor

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 2, "workers": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("columns")
    cutout_folder(path / "cut", n=3)
    model_file(path / "m.safetensors")
    (path / "t.csv").write_text("objid,cutout\n7,cut/g2.fits\n8,none.fits\n9,cut/g0.fits\n")
    return path


def run(folder, out, **options):
    return classify(folder / "t.csv", model=folder / "m.safetensors", out=out, **options, **FAST)


def test_shares_are_those_of_the_tree(folder, tmp_path):
    run(folder, tmp_path / "o.fits", shares=True, prefix="a_")
    table = Table.read(tmp_path / "o.fits")
    schema = registry.load("schemas", "galaxyzoo2")
    p = np.stack([np.ma.filled(table[f"a_p_{label}"].data, np.nan) for label in schema.labels], axis=1)
    expected = dict(zip(schema.labels, schema.answers(p).T, strict=True))
    names = [name for name in table.colnames if name.startswith("a_share_")]
    assert names[0] == "a_share_disk_edge_on_yes"
    assert "a_share_something_odd_yes" not in names, "a root is asked of all: its share is p"
    for name in names:
        np.testing.assert_allclose(
            np.ma.filled(table[name].data, np.nan), expected[name.removeprefix("a_share_")], rtol=1e-6
        )
    assert table["a_share_bar_yes"][0] + table["a_share_bar_no"][0] == pytest.approx(1)
    again = classify(
        tmp_path / "o.fits", model=folder / "m.safetensors", out=tmp_path / "p.fits", prefix="a_", replace=True,
        cutouts=folder, **FAST,
    )  # fmt: skip
    assert not any("share_" in name for name in Table.read(again.out).colnames), (
        "shares are of the run that is replaced"
    )


def test_classes_have_no_shares(folder, tmp_path):
    model = model_file(tmp_path / "c.safetensors", schema="galaxy10_sdss")
    with pytest.raises(ModelError, match="leave out --shares"):
        classify(folder / "t.csv", model=model, out=tmp_path / "o.fits", shares=True, **FAST)


def test_chosen_columns_have_the_values_of_all(folder, tmp_path):
    run(folder, tmp_path / "all.fits")
    run(folder, tmp_path / "some.fits", columns=("morph_*", "p_bar_yes"))
    every, some = Table.read(tmp_path / "all.fits"), Table.read(tmp_path / "some.fits")
    assert some.colnames[2:] == ["p_bar_yes", "morph_label", "morph_entropy", "morph_ok", "morph_flag"]
    for name in some.colnames:
        np.testing.assert_array_equal(some[name], every[name])
    with pytest.raises(ModelError, match=r"--columns p_rin\*: the model m gives no such column. Its columns: p_smooth"):
        run(folder, tmp_path / "none.fits", columns=("p_rin*",))


def expected_features(folder):
    predictor = Predictor(load(folder / "m.safetensors"), "cpu", "float32")
    rows = []
    for name in ("g2", "g0"):
        prepared = prepare(folder / "cut" / f"{name}.fits", predictor.model.card, np.nan)
        pictures = prepared.entry.normalization.rgb(torch.from_numpy(prepared.flux)[None])
        rows.append(next(predictor.features(prepared.entry.normalization.network_input(pictures)))[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("suffix", ["parquet", "fits", "npy"])
def test_features_are_what_enters_the_last_layer(folder, tmp_path, suffix):
    path = tmp_path / f"f.{suffix}"
    run(folder, tmp_path / "o.csv", features=path, tta=2)
    ids = None
    if suffix == "parquet":
        table = pq.read_table(path)
        ids, features = table["id"].to_pylist(), np.array(table["features"].to_pylist())
        assert table.schema.metadata[b"GMMODEL"] == b"m"
    elif suffix == "fits":
        table = fits.getdata(path)
        ids, features = list(table["id"]), table["features"]
        assert fits.getheader(path, 1)["GMMODEL"] == "m"
    else:
        features = np.load(path)
    assert ids in (None, ["7", "8", "9"])
    assert np.isnan(features[1]).all()
    np.testing.assert_allclose(features[[0, 2]], expected_features(folder), atol=1e-4)


def test_features_of_a_stopped_run_are_whole_and_no_file_is_replaced(folder, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    path = tmp_path / "f.npy"
    with pytest.raises(Interrupted):
        run(folder, tmp_path / "o.csv", features=path, on_progress=stop)
    assert not path.exists()
    run(folder, tmp_path / "o.csv", features=path)
    assert np.load(path).shape == (3, expected_features(folder).shape[1])
    with pytest.raises(OutputError, match=r"f\.npy of --features exists"):
        run(folder, tmp_path / "p.csv", features=path)
    with pytest.raises(OutputError, match=r"ends in \.parquet, \.fits, \.npy"):
        run(folder, tmp_path / "p.csv", features=tmp_path / "f.csv")
    with pytest.raises(OutputError, match="does not exist"):
        run(folder, tmp_path / "p.csv", features=tmp_path / "no" / "f.npy")


def test_the_options_of_the_command_line(folder, tmp_path):
    command = ["classify", str(folder / "t.csv"), "--model", str(folder / "m.safetensors"), "--shares"]
    command += ["--columns", "p_*,share_bar_yes,morph_label,morph_flag", "--features", str(tmp_path / "f.parquet")]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "o.csv")])
    assert result.exit_code == 0, result.output
    assert Table.read(tmp_path / "o.csv").colnames[-3:] == ["share_bar_yes", "morph_label", "morph_flag"]
    assert len(read_results(tmp_path / "o.csv")) == 3
    assert pq.read_table(tmp_path / "f.parquet").num_rows == 3
