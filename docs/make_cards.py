"""The page of the shipped models' cards, as Markdown; ``docs/conf.py`` writes it where the documentation is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from galmorph.models import card
from galmorph.models.card import ModelCard


def page() -> str:
    """Return the page: every card in ``weights/`` in words and tables."""
    parts = [
        "# Model cards\n",
        "Made from the cards inside the weights files that ship with galmorph; `galmorph models show NAME` prints one "
        "whole. How the models were trained and what was tried is in [How the models came to be](model_history.md).\n",
    ]
    for path in card.shipped().values():
        parts += _model(card.read_card(path), card.describe(path))
    return "\n".join(parts)


def _model(found: ModelCard, described: Mapping[str, Any]) -> Iterator[str]:
    schema = found.label_schema
    yield f"## {found.name}\n"
    yield f"{found.description}\n"
    yield f"**Meant for.** {found.intended_use}\n"
    yield f"**Limits.** {found.limits}\n"
    counts = f"{len(schema.labels)} labels of {len(schema.questions)} questions"
    rows = {
        "backbone": f"`{found.backbone}`, {found.input_size} px",
        "labels": f"`{found.schema}`: {counts} ({schema.reference})",
        "file": f"{described['bytes'] / 1e6:.1f} MB, SHA-256 `{described['sha256'][:16]}...`",
        "licence": found.licence,
        "calibration": _calibration(found),
        "made with": ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items())),
    }
    yield from _table(("property", "value"), rows.items())
    yield "### Takes\n"
    yield from _table(
        ("survey", "bands", "colours", "framing", "arcsec per pixel"),
        (
            (
                i.survey or "(none named)",
                ", ".join(i.bands),
                i.normalization.kind,
                f"{i.normalization.framing.radii:g} R90"
                if i.normalization.framing.radii
                else f"{i.normalization.framing.size_arcsec:g} arcsec",
                f"{i.pixscale_range[0]:g} to {i.pixscale_range[1]:g}",
            )
            for i in found.inputs
        ),
    )
    yield "### Trained on\n"
    yield from _table(
        ("sample", "galaxies", "of them for training", "SHA-256"),
        (
            (s.get("name", ""), s.get("n", ""), s.get("n_train", ""), f"`{str(s.get('sha256', ''))[:16]}...`")
            for s in found.trained_on
        ),
    )
    yield "### Scores\n"
    yield from _table(
        ("part", "sample", "n", "score", "value", "95 % interval"),
        _scores(found.metrics),
    )


def _calibration(found: ModelCard) -> str:
    kept = found.calibration
    return (
        f"{kept.get('method', '')}, fitted on {kept.get('fitted_on', '')} (n = {kept.get('n', '')})" if kept else "none"
    )


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for part, samples in metrics.items():
        for sample, scores in samples.items():
            for name in ("rmse", "accuracy", "balanced_accuracy", "f1", "nll", "ece"):
                if name in scores:
                    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
                    told = f"{low:.4f} to {high:.4f}" if low is not None else ""
                    yield part, sample, scores.get("n", ""), name, f"{scores[name]:.4f}", told


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
    yield ""
