"""Bars in scripts and notebooks are tqdm's; the command line does without them."""

import pytest
import tqdm.auto
from made import cutout_folder, model_file
from test_cli import invoke

import galmorph
from galmorph.progress import progress_bar


@pytest.fixture
def survey(tmp_path):
    cutout_folder(tmp_path / "c", n=3)
    model_file(tmp_path / "m.safetensors")
    return tmp_path


def test_classify_shows_a_bar_where_it_is_asked_for(survey, capsys):
    seen = []
    options = {"model": survey / "m.safetensors", "overwrite": True, "batch_size": 2, "workers": 1, "device": "cpu"}
    galmorph.classify(survey / "c", **options, progress=True, on_progress=lambda *counts: seen.append(counts))
    shown = capsys.readouterr()
    assert "classifying: 100%" in shown.err
    assert "3/3" in shown.err
    assert " galaxies/s" in shown.err
    assert seen == [(2, 3), (3, 3)]
    galmorph.classify(survey / "c", **options)
    assert capsys.readouterr().err == ""


def test_the_command_line_shows_its_own(survey, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("tqdm is not for the command line")

    monkeypatch.setattr(tqdm.auto, "tqdm", refused)
    assert invoke("classify", survey / "c", "--model", survey / "m.safetensors", "--device", "cpu").exit_code == 0
    with pytest.raises(AssertionError, match="tqdm"):
        galmorph.classify(survey / "c", model=survey / "m.safetensors", overwrite=True, progress=True)


def test_a_resumed_bar_begins_where_the_run_does(monkeypatch):
    bars = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            bars.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    with progress_bar(True, "fetching", "requests", None) as update:
        update(1000, 2000)
        update(1001, 2000)
        update(1002, 2500)
    (bar,) = bars
    assert (bar.initial, bar.n, bar.total) == (1000, 1002, 2500)


def test_a_bar_is_closed_where_the_run_ends_early(capsys):
    def interrupted():
        with progress_bar(True, "fetching", "requests", None) as update:
            update(1, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err.endswith("\n")
