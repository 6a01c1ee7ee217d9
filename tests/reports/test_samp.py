"""SAMP, with the package's own hub: programs get FITS as it is, or a VOTable."""

import numpy as np
import pytest
from astropy.table import Table
from made import cutout_folder, model_file
from results_made import results
from typer.testing import CliRunner

from galmorph.cli.app import app
from galmorph.errors import GalmorphError
from galmorph.reports.samp import samp_module, send

samp = samp_module()


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'hub').as_uri()}")
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def hub(no_hub):
    with samp.conf.set_temp("use_internet", False):
        server = samp.SAMPHubServer(web_profile=False, mode="single", lockfile=str(no_hub / "hub"))
        server.start()
        yield server
        server.stop()


class Program:
    """A program that takes some kinds of tables."""

    def __init__(self, name, *kinds):
        self.got = []
        self._client = samp.SAMPIntegratedClient(name=name)
        self._client.connect()
        for kind in kinds:
            self._client.bind_receive_notification(f"table.load.{kind}", self._take)

    def _take(self, key, sender, kind, parameters, extra):
        self.got.append((kind, parameters))

    def tables(self):
        for _ in range(200):
            if self.got:
                break
            __import__("time").sleep(0.02)
        self._client.disconnect()
        return self.got


@pytest.mark.parametrize("suffix", ["fits", "parquet", "csv"])
def test_each_program_gets_what_it_reads(hub, tmp_path, suffix):
    p = results(tmp_path / f"r.{suffix}", n=5)
    topcat, ds9 = Program("topcat", "fits", "votable"), Program("ds9", "votable")
    assert sorted(send(tmp_path / f"r.{suffix}")) == ["ds9", "topcat"]
    (first,), (second,) = topcat.tables(), ds9.tables()
    assert first[0] == ("table.load.fits" if suffix == "fits" else "table.load.votable")
    assert second[0] == "table.load.votable"
    assert first[1]["name"] == second[1]["name"] == f"r.{suffix}"
    for kind, parameters in (first, second):
        path = parameters["url"].removeprefix("file://")
        table = Table.read(path, format="votable") if kind.endswith("votable") else Table.read(path)
        np.testing.assert_allclose(np.ma.filled(table["p_ring"] if "p_ring" in table.colnames else
            table["p_bar_yes"], np.nan).astype(float), p[:, 5], rtol=1e-5)  # fmt: skip
        assert str(table["ra"].unit) == "deg" or suffix == "csv"


def test_a_hub_without_programs_is_no_error(hub, tmp_path):
    results(tmp_path / "r.fits", n=5)
    assert send(tmp_path / "r.fits") == []


def test_without_a_hub_nothing_is_classified(no_hub, tmp_path):
    cutout_folder(tmp_path / "cut", n=1)
    model = model_file(tmp_path / "m.safetensors")
    command = ["classify", str(tmp_path / "cut"), "--model", str(model), "--out", str(tmp_path / "o.fits"), "--samp"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, GalmorphError)
    assert "start TOPCAT" in str(result.exception)
    assert not (tmp_path / "o.fits").exists()


def test_classify_and_select_send_their_result(hub, tmp_path):
    cutout_folder(tmp_path / "cut", n=2)
    model = model_file(tmp_path / "m.safetensors")
    topcat = Program("topcat", "fits")
    out = tmp_path / "o.fits"
    command = ["classify", str(tmp_path / "cut"), "--model", str(model), "--out", str(out), "--samp"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "Sent to topcat" in result.stderr
    result = CliRunner().invoke(app, ["select", str(out), "smooth >= 0", "--out", str(tmp_path / "s.fits"), "--samp"])
    assert result.exit_code == 0, result.output
    assert [parameters["name"] for _, parameters in topcat.tables()][:1] == ["o.fits"]
