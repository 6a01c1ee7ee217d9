"""Training on a GPU: finite losses, and a stopped run that goes on to the same weights."""

import pytest
import torch
from made import kaggle_folder
from safetensors.torch import load_file

from galmorph.training.config import TrainConfig
from galmorph.training.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


class Stop(BaseException):
    pass


def stop(_):
    raise Stop


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    data = kaggle_folder(tmp_path / "zoo", n=60)
    config = TrainConfig(
        (str(data),), "galaxyzoo2", backbone="mobilenet_v2", pretrained="none", input_size=64, epochs=2, device="cuda"
    )
    train(config, tmp_path / "whole", test=False)
    with pytest.raises(Stop):
        train(config, tmp_path / "stopped", test=False, on_epoch=stop)
    train(config, tmp_path / "stopped", resume=True, test=False)
    whole, stopped = (load_file(next((tmp_path / name).glob("*.safetensors"))) for name in ("whole", "stopped"))
    assert all(value.isfinite().all() for value in whole.values() if value.is_floating_point())
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
