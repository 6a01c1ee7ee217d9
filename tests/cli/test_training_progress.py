"""What a training run says while it goes on, and how it is gone on with after Ctrl-C."""

import io
import json
import re
import shlex
import sys

import numpy as np
import pytest
from made import blob
from PIL import Image
from test_cli import invoke

from galmorph.cli import console, terminal
from galmorph.cli.console import SafeConsole
from galmorph.errors import Interrupted
from galmorph.training import train as training
from galmorph.training.config import configure


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of pictures, and options of a short run."""
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("round", "thin")):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.fromarray(blob(kind, rng)).save(tmp_path / name / f"{i}.png")
    return [tmp_path / "round", tmp_path / "thin"]


def command(folders, *more):
    data = [word for folder in folders for word in ("--data", folder)]
    small = ("--backbone", "mobilenet_v1", "--pretrained", "none", "--input-size", 32, "--batch-size", 4)
    few = ("--epochs", 2, "--device", "cpu", "--set", "split.val=0.2", "--set", "split.test=0.2")
    return ["train", *data, *small, *few, "--out", folders[0].parent / "run", *more]


def test_the_first_lines_say_what_is_trained_on_what_before_a_picture_is_read(folders, caplog, monkeypatch):
    def refused(*_, **__):
        raise RuntimeError("reading")

    monkeypatch.setattr("galmorph.training.dataset.decode", refused)
    config = configure("default", list(map(str, folders)), None, "mobilenet_v1", pretrained="none", device="cpu")
    with caplog.at_level("INFO"), pytest.raises(RuntimeError, match="reading"):
        training.train(config, folders[0].parent / "run")
    assert caplog.messages[0] == "Training mobilenet_v1 (all layers, from fresh weights) on round, thin."
    assert re.fullmatch(
        r"Schema classes: 2 classes \(round, thin\). 20 epochs on cpu, \d+ threads?.", caplog.messages[1]
    )


def test_a_log_holds_lines_and_nothing_else(folders, monkeypatch):
    monkeypatch.setattr(terminal, "_LINE_S", 0.0)
    result = invoke(*command(folders))
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert any(re.fullmatch(r"epoch 1 of 2, batch 2 of 3: loss 0\.\d{4}, \d+ s left", line) for line in lines)
    assert any(re.fullmatch(r"epoch 1 of 2: loss .*, rmse 0\.\d{4}, \d+ s, \d+ s left", line) for line in lines)
    assert any(re.fullmatch(r"epoch 2 of 2: loss .*, rmse 0\.\d{4}, \d+ s", line) for line in lines)
    assert not {"\r", "\x1b"} & set(result.stderr)


def test_a_quiet_run_says_nothing_of_its_steps(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_LINE_S", 0.0)
    monkeypatch.setattr(console.stderr, "quiet", True)
    with terminal.training_progress() as (_, on_step):
        on_step(terminal_step(7, 12))
    assert capsys.readouterr().err == ""


def test_json_lines_tell_of_steps(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "_EVENT_S", 0.0)
    monkeypatch.setattr(terminal, "stderr", SafeConsole(file=console.Events(), width=1000))
    with terminal.training_progress() as (_, on_step):
        on_step(terminal_step(7, 12))
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["what"], event["done"], event["total"]) == ("progress", "training", 7, 12)
    assert (event["epoch"], event["epochs"], event["loss"], event["seconds_left"]) == (3, 20, 0.43211, 3660.0)


def test_a_terminal_shows_a_bar_within_80_columns(folders, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", SafeConsole(file=shown, force_terminal=True, width=80))
    with terminal.training_progress() as (_, on_step):
        on_step(terminal_step(7, 12))
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    bar = next(line for line in lines if "epoch 3/20" in line)
    assert "7/12 loss 0.4321, 1 h 1 min left" in bar
    assert len(bar.rstrip()) <= 80


def terminal_step(batch, batches):
    from galmorph.progress import TrainingStep

    return TrainingStep(3, 20, batch, batches, 0.43211, 3660.0)


@pytest.mark.parametrize(
    ("at", "kept", "goes_on"),
    [("decode", "Stopped before the first epoch: nothing is kept.", False),
     ((1, 2), "Stopped: no epoch is finished in .*run.", True),
     ((2, 1), "Stopped: the first epoch is kept in .*run.", True)],
)  # fmt: skip
def test_ctrl_c_says_how_to_go_on_and_the_command_does(folders, monkeypatch, at, kept, goes_on):
    words = list(map(str, command(folders)))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/galmorph", *words])
    with monkeypatch.context() as patch:
        _interrupt(patch, at)
        with pytest.raises(Interrupted) as caught:
            invoke(*words)
    assert caught.value.exit_code == 130
    message = str(caught.value)
    assert re.match(kept, message), message
    again = shlex.split(message.split(" with: ")[1])
    assert again == ["galmorph", *words, *(["--resume"] if goes_on else [])]
    assert not goes_on or invoke(*again[1:]).exit_code == 0
    assert (folders[0].parent / "run" / "model.safetensors").is_file() == goes_on


def _interrupt(patch, at):
    """Press Ctrl-C while pictures are read, or after a batch of an epoch."""
    if at == "decode":
        patch.setattr("galmorph.training.dataset.decode", _press)
        return
    run = training.train

    def stopping(*arguments, on_step, **options):
        return run(*arguments, **options, on_step=lambda step: _press() if (step.epoch, step.batch) == at else None)

    patch.setattr("galmorph.training.train.train", stopping)


def _press(*_, **__):
    raise KeyboardInterrupt


def test_names_of_scores_are_whole_beside_a_long_name_of_the_data(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "stderr", SafeConsole(stderr=True, width=80))
    scores = {"balanced_accuracy": 0.5, "balanced_accuracy_low": 0.4, "balanced_accuracy_high": 0.6}
    terminal.show_metrics({"test_tta8": {"elliptical galaxies of my survey, spiral galaxies of my survey": scores}})
    shown = capsys.readouterr().err
    assert "balanced_accuracy" in shown
    assert "0.4000 .. 0.6000" in shown
    assert max(map(len, shown.splitlines())) <= 80
