"""Classification on a GPU: equal bytes for the same command, resumed or not, read by threads or in processes."""

import pytest
import torch
from made import cutout_folder, model_file

from galmorph.classification.classify import classify
from galmorph.classification.reading import readers

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equal_bytes_resumed_or_not(tmp_path, monkeypatch, dtype):
    cutout_folder(tmp_path / "cutouts", n=40)
    options = {"model": model_file(tmp_path / "tiny.safetensors"), "device": "cuda", "dtype": dtype, "workers": 3}
    options |= {"batch_size": 8, "record_provenance": False}

    def run(name, **more):
        classify(tmp_path / "cutouts", out=tmp_path / name, **options, **more)
        return (tmp_path / name).read_bytes()

    def stop(done, _):
        if done >= 16:
            raise InterruptedError

    whole = run("a.fits")
    with pytest.raises(InterruptedError):
        run("b.fits", on_progress=stop)
    assert run("b.fits") == whole
    monkeypatch.setattr(readers, "MIN_ROWS", 1)
    assert run("c.fits") == whole
