"""Survey batch processing for galaxy morphology.

The public functions are loaded when they are first used, so that importing galmorph does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "classify": "classification.classify",
    "classify_hats": "classification.hats",
    "compare": "training.comparison",
    "demo": "cli.demo",
    "evaluate": "training.evaluation.evaluate",
    "fetch": "retrieval.fetch",
    "report": "reports.catalog",
    "select": "selection.select",
    "show": "reports.show",
    "train": "training.train",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"galmorph.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'galmorph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
