"""Checkpoints: the state that a stopped training run needs to continue, as safetensors and JSON."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn, optim

from galmorph.errors import OutputError
from galmorph.files.record import read_record, write_record
from galmorph.files.writing import write_file
from galmorph.models.card import SUFFIX

_NAME = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an epoch: weights, averaged weights, the optimizer's state, the history.

    Attributes
    ----------
    out : Path
        The run's folder.
    """

    out: Path
    network: nn.Module
    averaged: nn.Module
    optimizer: optim.Optimizer

    @staticmethod
    def history(out: Path) -> list[dict[str, float]]:
        """Return the history in a folder's checkpoint, empty where there is none; OutputError if it is damaged."""
        record = read_record(out / _NAME)
        return record["history"] if record else []

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
        digest = hashlib.sha256(data).hexdigest()
        write_record(self.out / _NAME, {"file": name, "sha256": digest, "history": history})
        for old in self.out.glob(f"checkpoint-*{SUFFIX}"):
            if old.name != name:
                old.unlink()

    def load(self) -> None:
        """Read the checkpoint into network, averaged weights and optimizer.

        Raises
        ------
        OutputError
            If it is damaged.
        """
        from safetensors.torch import load

        record = read_record(self.out / _NAME) or {}
        path = self.out / str(record.get("file"))
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != record.get("sha256"):
            raise OutputError(f"The checkpoint {path} is damaged: train anew, in another folder.")
        tensors = load(data)

        def with_prefix(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(with_prefix("network."))
        self.averaged.load_state_dict(with_prefix("averaged."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in with_prefix("optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
