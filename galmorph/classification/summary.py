"""The summary of a run, counted from its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from galmorph.classification.output_columns import is_ok, with_unlearnt
from galmorph.classification.process import Clock, peak_memory_mb
from galmorph.files.journal import Journal
from galmorph.images.flags import Flag
from galmorph.models.card import ModelCard


@dataclass(frozen=True)
class Summary:
    """The summary of a run; the fields are those of ``classify --json``.

    ``targets = classified + failed``; ``flagged`` are those of ``classified`` with a bit that is not a note, the
    others have ``morph_ok``; ``off_centre`` have bit 1024; ``rate`` is in targets per second.
    """

    targets: int
    classified: int
    flagged: int
    failed: int
    off_centre: int
    seconds: float
    rate: float
    model: str
    sha256: str
    out: str
    flags: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    profile: Mapping[str, float] = field(default_factory=dict)


def summarize(journal: Journal, card: ModelCard, sha256: str, destination: Path, clock: Clock) -> Summary:
    """Return the summary of a complete run.

    Parameters
    ----------
    sha256 : str
        Hash of the model's file.
    destination : Path
        The output.
    """
    classified = flagged = failed = 0
    flags: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    schema = card.label_schema
    for records in journal.blocks():
        has_p = ~np.isnan(records["p"][:, 0])
        classified += int(has_p.sum())
        failed += int((~has_p).sum())
        flagged += int((has_p & ~is_ok(records)).sum())
        for flag in Flag:
            flags[(flag.name or "").lower()] += int((records["flag"] & flag.value != 0).sum())
        labels.update(schema.short_names(with_unlearnt(records["p"][has_p], card, 0.0)).tolist())
    seconds = clock.elapsed
    return Summary(
        targets=classified + failed,
        classified=classified,
        flagged=flagged,
        failed=failed,
        off_centre=flags["off_centre"],
        seconds=round(seconds, 3),
        rate=round((classified + failed) / seconds, 2),
        model=card.name,
        sha256=sha256,
        out=str(destination),
        flags={name: count for name, count in flags.items() if count},
        labels=dict(labels.most_common()),
        profile={name: round(value, 3) for name, value in clock.seconds.items()}
        | {"total": round(seconds, 3), "peak_mb": round(peak_memory_mb(), 1)},
    )
