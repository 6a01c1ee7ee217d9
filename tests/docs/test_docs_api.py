"""The examples of docs/api.md: each runs, with functions that check what they are given in place of the long ones."""

import inspect
from pathlib import Path
from unittest import mock

import docrun
import numpy as np
import pytest
from made import blob
from PIL import Image

import galmorph
from galmorph.training.config import config_for

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = [body for _, body in docrun.blocks(PAGE, "python")]


def checked(function):
    """Return a function that takes what another one takes, and does nothing."""
    signature = inspect.signature(function)

    def call(*arguments, **options):
        bound = signature.bind(*arguments, **options).arguments
        if function.__name__ == "train":
            assert config_for(bound["data"], **bound["options"]).schema == "classes"
        return bound

    return call


def test_there_is_an_example_for_each_task():
    assert len(BLOCKS) >= 3
    assert all("galmorph." in block for block in BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("spirals", "ellipticals"):
        (tmp_path / name).mkdir()
        Image.fromarray(blob(0, np.random.default_rng(0))).save(tmp_path / name / "a.png")
    given = {"galmorph": galmorph, "frame": object(), "table": object(), "flux": np.zeros((1, 3, 8, 8), np.float32)}
    long = ("fetch", "classify", "train", "evaluate", "report", "show", "select")
    with mock.patch.multiple(galmorph, create=True, **{name: checked(getattr(galmorph, name)) for name in long}):
        exec(compile(BLOCKS[number], "api.md", "exec"), given)
