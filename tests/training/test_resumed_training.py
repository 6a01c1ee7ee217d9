"""A training goes on only alone in its folder, and only with what it began with."""

import shutil

import pandas as pd
import pytest
from made import blob, kaggle_folder, model_file
from numpy.random import default_rng
from PIL import Image

from galmorph.errors import OutputError
from galmorph.files.lock import locked
from galmorph.training.config import TrainConfig
from galmorph.training.split import Split
from galmorph.training.train import train


class Stop(BaseException):
    pass


def stop(line):
    raise Stop


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with data, a teacher, a list of galaxies to leave out, and a training that was stopped; its options."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GALMORPH_CACHE", str(folder / "cache"))
        data = kaggle_folder(folder / "zoo", n=24)
        (folder / "listed.csv").write_text("galaxy\nzoo:1001\n")
        split = Split(val=0.2, test=0.2)
        teacher = model_file(folder / "teacher.safetensors", split=split.card())
        config = TrainConfig(
            (str(data),),
            "galaxyzoo2",
            backbone="mobilenet_v1",
            pretrained="none",
            input_size=32,
            epochs=2,
            device="cpu",
            dtype="float32",
            split=split,
            teachers=(str(teacher),),
            exclude=(str(folder / "listed.csv"),),
        )
        with pytest.raises(Stop):
            train(config, folder / "run", on_epoch=stop)
        yield folder, config


def labels(folder):
    path = folder / "zoo" / "training_solutions_rev1.csv"
    table = pd.read_csv(path)
    table["Class1.1"] = 1 - table["Class1.1"]
    table["Class1.2"] = 1 - table["Class1.2"]
    table.to_csv(path, index=False)


def pictures(folder):
    Image.fromarray(blob(2, default_rng(9))).save(folder / "zoo" / "images_training_rev1" / "1003.jpg")


def left_out(folder):
    (folder / "listed.csv").write_text("galaxy\nzoo:1002\n")


def teacher(folder):
    model_file(folder / "teacher.safetensors", seed=1, split=Split(val=0.2, test=0.2).card())


@pytest.mark.parametrize(
    ("change", "what"),
    [(labels, "samples.zoo"), (pictures, "samples.zoo"), (left_out, "split"), (teacher, "teachers")],
)
def test_a_training_does_not_go_on_with_something_else(stopped, monkeypatch, change, what):
    folder, config = stopped
    monkeypatch.setenv("GALMORPH_CACHE", str(folder / "cache"))
    kept = shutil.copytree(folder, folder.with_name(f"kept-{change.__name__}"))
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    try:
        change(folder)
        with pytest.raises(OutputError, match=rf"had another {what}: give the same .* train anew in another folder"):
            train(config, folder / "run", resume=True)
        assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before
    finally:
        shutil.copytree(kept, folder, dirs_exist_ok=True)


def test_one_training_at_a_time_goes_on(stopped):
    folder, config = stopped
    with (
        locked(folder / "run" / ".lock", "training"),
        pytest.raises(OutputError, match=r"Another run is training in .*run: wait for it"),
    ):
        train(config, folder / "run", resume=True)


def test_a_training_that_cannot_begin_leaves_nothing(stopped, tmp_path):
    _, config = stopped
    with pytest.raises(OutputError, match="no run to resume"):
        train(config, tmp_path / "none", resume=True)
    assert not list(tmp_path.iterdir())


def test_the_state_of_a_training_is_checked(stopped):
    folder, config = stopped
    state = folder / "run" / "state.json"
    content = state.read_bytes()
    try:
        state.write_bytes(content.replace(b"zoo", b"zoz"))
        with pytest.raises(OutputError, match=r"state\.json is damaged"):
            train(config, folder / "run", resume=True)
    finally:
        state.write_bytes(content)
