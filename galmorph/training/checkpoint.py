"""Checkpoints: all that a stopped training run needs to go on, as safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn, optim

from galmorph.files.writing import write_file
from galmorph.models.card import SUFFIX


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an epoch: weights, averaged weights, the optimizer's state, the history.

    Attributes
    ----------
    out : Path
        The run's folder.
    network, averaged : nn.Module
    optimizer : optim.Optimizer
    """

    out: Path
    network: nn.Module
    averaged: nn.Module
    optimizer: optim.Optimizer

    @staticmethod
    def history(out: Path) -> list[dict[str, float]]:
        """Return the history in a folder's checkpoint, empty where there is none."""
        path = out / "checkpoint.json"
        return json.loads(path.read_text())["history"] if path.exists() else []

    def save(self, history: list[dict[str, float]]) -> None:
        """Write the checkpoint; the one before it is kept until it is complete."""
        from safetensors.torch import save as serialize

        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
        data = serialize({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
        name = f"checkpoint-{len(history)}{SUFFIX}"
        write_file(self.out / name, data)
        write_file(self.out / "checkpoint.json", json.dumps({"file": name, "history": history}).encode())
        for old in self.out.glob(f"checkpoint-*{SUFFIX}"):
            if old.name != name:
                old.unlink()

    def load(self) -> None:
        """Read the checkpoint into network, averaged weights and optimizer."""
        from safetensors.torch import load_file

        tensors = load_file(self.out / json.loads((self.out / "checkpoint.json").read_text())["file"])

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.averaged.load_state_dict(part("averaged."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
