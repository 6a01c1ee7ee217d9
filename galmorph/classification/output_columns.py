"""The columns that classification appends to a table, by label schema and model."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.options import ClassifyOptions
from galmorph.errors import ModelError
from galmorph.images.flags import NOTES, Flag, describe_bits
from galmorph.models import conformal
from galmorph.models.card import ModelCard
from galmorph.models.vote_spread import spread as vote_spread
from galmorph.schemas import LabelSchema
from galmorph.tables.formats import Column

_OK = "true: there is a probability, and no bit of the flag but {notes} is set"


def output_columns(
    card: ModelCard, prefix: str = "", *, spread: bool = False, shares: bool = False, pictures: bool = False
) -> list[Column]:
    """Return the columns that classification appends, with UCDs and descriptions.

    ``morph_set`` and ``morph_ood`` are among them where the model's card has sets and a threshold of unlikeness.

    Parameters
    ----------
    prefix : str
        Prefix of the names.
    spread : bool
        Whether ``p_<label>_err`` follow the probabilities.
    shares : bool
        Whether ``share_<label>`` follow: of a tree, the share of an answer among those who would be asked.
    pictures : bool
        Whether a cutout is an 8-bit picture: the flag's description names their bit only then.

    Raises
    ------
    ModelError
        If the spread is wanted and the card has none.
    """
    schema = card.label_schema
    ucd = "stat.probability;src.morph.type"
    columns = [
        Column(f"{prefix}p_{label}", "float32", ucd=ucd, description=_meaning(card, label)) for label in schema.labels
    ]
    if spread:
        _concentration(card)
        what, ucd = "standard deviation of galaxies' vote fractions around", "stat.stdev;src.morph.type"
        columns += [
            Column(f"{prefix}p_{label}_err", "float32", ucd=ucd, description=f"{what} p_{label}")
            for label in schema.labels
        ]
    if shares:
        columns += [
            Column(
                f"{prefix}share_{schema.labels[i]}", "float32", ucd="stat.probability;src.morph.type", description=what
            )
            for i in _with_shares(schema)
            for what in [f"share of {schema.labels[i]} among those who are asked"]
        ]
    if schema.is_classes:
        name, entropy = "most probable class, where its share is at least 0.5", "over all classes"
    else:
        name, entropy = (
            "answers with a share of at least 0.5 among all, followed from the first question",
            "of the first question",
        )
    notes = "256, 512 and 4096" if pictures else "256 and 512"
    bits = [flag for flag in Flag if pictures or flag != Flag.PICTURE]
    fitted = []
    if card.set_threshold() is not None:
        sets = card.calibration["conformal"]
        what = f"classes that hold the true one for {100 * sets['level']:g} % of galaxies"
        width = conformal.name_width(schema, min(sets["thresholds"]))
        fitted.append(Column(f"{prefix}morph_set", "str", ucd="src.morph.type", description=what, width=width))
    if (threshold := card.unlikeness_threshold) is not None:
        what = f"unlikeness to the training data; flagged above {threshold:g}"
        fitted.append(Column(f"{prefix}morph_ood", "float32", unit="", ucd="stat.value", description=what))
    return [
        *columns,
        Column(f"{prefix}morph_label", "str", ucd="src.morph.type", description=name, width=schema.name_width),
        Column(f"{prefix}morph_entropy", "float32", unit="", ucd="stat", description=f"entropy {entropy}, nats"),
        *fitted,
        Column(f"{prefix}morph_ok", "bool", ucd="meta.code.qual", description=_OK.format(notes=notes)),
        Column(f"{prefix}morph_flag", "int16", ucd="meta.code.qual", description=describe_bits(bits)),
    ]


def column_values(
    records: NDArray[np.void], card: ModelCard, *, tta: int = 1, spread: bool = False, shares: bool = False
) -> list[NDArray[Any]]:
    """Return the values of :func:`output_columns`, in their order.

    Parameters
    ----------
    records : ndarray, shape (n,)
        As :func:`record_dtype` has them.
    tta : int
        Orientations that were averaged.
    """
    schema = card.label_schema
    p = np.asfortranarray(records["p"])
    arrays = list(with_unlearnt(p, card, np.nan).T)
    if spread:
        arrays += list(with_unlearnt(np.asfortranarray(vote_spread(schema, p, _concentration(card))), card, np.nan).T)
    # A label never names an answer that the model has not learnt.
    p = with_unlearnt(p, card, 0.0)
    first = p if schema.is_classes else p[:, schema.slices[0]]
    entropy = -np.where(first > 0, first * np.log(np.where(first > 0, first, 1)), 0 * first).sum(axis=1)
    if set(range(first.shape[1])) <= set(card.unlearnt):
        entropy[:] = np.nan
    if shares:
        arrays += list(np.asfortranarray(schema.answers(p)[:, _with_shares(schema)]).T)
    arrays += [np.array(schema.short_names(p), dtype=object), entropy.astype(np.float32)]
    if (set_threshold := card.set_threshold(tta)) is not None:
        arrays.append(conformal.names(schema, p, set_threshold))
    if card.unlikeness_threshold is not None:
        arrays.append(records["ood"])
    return [*arrays, is_ok(records), records["flag"]]


def wanted_columns(card: ModelCard, options: ClassifyOptions, *, pictures: bool = False) -> list[Column]:
    """Return the columns of :func:`output_columns` that the options ask for.

    Raises
    ------
    ModelError
        If the model does not give one of them.
    """
    columns = output_columns(card, options.prefix, spread=options.spread, shares=options.shares, pictures=pictures)
    if not options.columns:
        return columns
    names = [column.name.removeprefix(options.prefix) for column in columns]
    for pattern in options.columns:
        if not any(fnmatchcase(name, pattern) for name in names):
            listed = ", ".join([*names[:3], "...", *names[-4:]])
            raise ModelError(f"--columns {pattern}: the model {card.name} gives no such column. Its columns: {listed}.")
    chosen = zip(columns, names, strict=True)
    return [column for column, name in chosen if any(fnmatchcase(name, pattern) for pattern in options.columns)]


def _with_shares(schema: LabelSchema) -> list[int]:
    """Return the labels whose share among those who are asked differs from that among all."""
    pairs = zip(schema.slices, schema.parents, strict=True)
    indices = [index for columns, parents in pairs if parents for index in range(columns.start, columns.stop)]
    if not indices:
        raise ModelError(
            f"The labels of {schema.name} are not a decision tree: leave out --shares, p_<label> are shares."
        )
    return indices


def is_ok(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return where the probabilities can be used: there are some, and no flag is set except notes."""
    return ~np.isnan(records["p"][:, 0]) & (records["flag"] & ~int(NOTES) == 0)


def _concentration(card: ModelCard) -> list[float]:
    if card.concentration is None:
        raise ModelError(
            f"The model {card.name} knows no spread of vote fractions: leave out --spread. Models of votes get it by "
            "galmorph train, or by galmorph models calibrate."
        )
    return card.concentration


def _meaning(card: ModelCard, label: str) -> str:
    schema = card.label_schema
    index = schema.labels.index(label)
    never = "; no training galaxy had it: always empty" if index in card.unlearnt else ""
    return f"probability of {label} ({schema.name} {schema.codes[index]}){never}"


def with_unlearnt(p: NDArray[np.float32], card: ModelCard, value: float) -> NDArray[np.float32]:
    """Return probabilities (n, n_labels) with a value for labels that were not learnt; rows without any stay NaN."""
    if not card.unlearnt:
        return p
    filled = p.copy(order="K")
    filled[:, card.unlearnt] = np.where(np.isnan(p[:, card.unlearnt]), np.nan, np.float32(value))
    return filled


def record_dtype(schema: LabelSchema, n_features: int = 0) -> np.dtype[np.void]:
    """Return the journal's record of a galaxy: the network's results, its flag and position, its cutout's state."""
    features = [("features", "<f4", (n_features,))] if n_features else []
    return np.dtype(
        [
            ("p", "<f4", (len(schema.labels),)),
            ("ood", "<f4"),
            ("flag", "<i2"),
            ("ra", "<f8"),
            ("dec", "<f8"),
            ("state", "<u8"),
            *features,
        ]
    )
