"""Labels in the columns of a table: fractions, and labels that are one word or number a galaxy."""

from __future__ import annotations

import dataclasses
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from galmorph import registry
from galmorph.errors import SampleError, listed
from galmorph.schemas import LabelSchema
from galmorph.tables.catalog import Catalog
from galmorph.tables.formats import Array
from galmorph.tables.positions import to_float
from galmorph.tables.roles import plain_name
from galmorph.training.samples import TOTAL_VOTES

log = logging.getLogger(__name__)

# The schema whose columns of fractions are recognised without being named.
TREE = "galaxyzoo2"
# Columns of one label a galaxy, the likeliest first. The first two may hold numbers from 0.
CLASS_COLUMNS = ("label", "class", "labels", "morphology", "morph_class", "morph_type", "galaxy_class", "category")
# Minimum fraction of an answer that counts as a majority.
MAJORITY = 0.5
# A column with more different values holds measurements or names, not classes.
MOST_CLASSES = 100
_UNKNOWN = ("", "nan", "--", "none", "null", "unknown")
_ROUNDING = 1e-3
# Names of votes and fractions in published catalogs.
_VOTES = re.compile(r"(t\d\d_|class\d).*|.*_(fraction|debiased|weighted|votes?|count)")
# Of Galaxy Zoo, in names of columns: smooth-or-featured-dr5_smooth_fraction.
_CAMPAIGN = re.compile(r"_(dr\d+|desi|gz2)(?=_)")
# Of columns and of labels in a message.
_LISTED = 8


@dataclass(frozen=True)
class TableLabels:
    """The labels of a table's rows.

    Attributes
    ----------
    fractions : ndarray, float32, shape (n, n_labels)
        NaN where unknown.
    votes : ndarray, float32, shape (n,)
        Number of people who answered the first question; NaN where unknown.
    wrong : dict
        Row to the reason why its labels cannot be used.
    lower : ndarray, float32, shape (n, n_labels), optional
        Least fractions, where labels are the names of a tree's answers.
    """

    fractions: NDArray[np.float32]
    votes: NDArray[np.float32]
    wrong: dict[int, str]
    lower: NDArray[np.float32] | None = None


def read_labels(catalog: Catalog, schema: LabelSchema, label_column: str = "") -> TableLabels:
    """Read the labels of a table.

    Parameters
    ----------
    catalog : Catalog
        Columns that galmorph wrote are not read.
    label_column : str
        The column of one label a galaxy; default: the schema's own, `CLASS_COLUMNS`, the first question's name.

    Raises
    ------
    SampleError
        If no column belongs to the schema.
    """
    unknown = np.full((catalog.n_rows, len(schema.labels)), np.nan, np.float32)
    if not schema.learns:
        return TableLabels(unknown, unknown[:, 0].copy(), {})
    given = _given(catalog)
    column = find_label_column(catalog, label_column, (schema.class_column,), (schema.questions[0].name,))
    sources = {name: at for name, at in _columns_of(catalog, schema).items() if at != column}
    totals = [name for name in given.values() if _plain(name) in map(_plain, TOTAL_VOTES)]
    total = _only(totals) or next((given[name] for name in TOTAL_VOTES if name in given), None)
    cells = catalog.read([*sources.values(), *filter(None, (column, total))])
    votes = np.full(catalog.n_rows, np.nan) if total is None else to_float(cells[total])
    votes = np.where(votes > 0, votes, np.nan).astype(np.float32)
    columns, wrong = _fractions(cells, sources, schema)
    if column is not None and schema.has_classes:
        columns[column], unfit = class_numbers(cells[column], schema)
        _check_counting(cells[column], schema, f"{catalog.path}: the column {column}")
        wrong = unfit | wrong
        schema = dataclasses.replace(schema, class_column=column)
    _log_columns(catalog, schema, [*sources.values(), *filter(None, [column])])
    if column is not None:
        _log_unusable_labels(cells[column], wrong, f"{catalog.path}: {column}")
    try:
        return TableLabels(schema.from_columns(columns), votes, wrong)
    except SampleError as error:
        if schema.has_classes or column is None or cells[column].dtype != object:
            raise SampleError(f"{catalog.path}: {error}") from error
    lower, wrong = majorities(cells[column], schema)
    _log_unusable_labels(cells[column], wrong, f"{catalog.path}: {column}")
    return TableLabels(unknown, votes, wrong, lower)


def _fractions(
    cells: dict[str, Array], sources: dict[str, str], schema: LabelSchema
) -> tuple[dict[str, NDArray[np.float64]], dict[int, str]]:
    columns = {name: to_float(cells[at]) for name, at in sources.items()}
    wrong: dict[int, str] = {}
    for name in sources:
        negative = (columns[name] < 0) & (name not in schema.conditional)
        outside = negative | (columns[name] > 1 + _ROUNDING)
        wrong |= {int(row): f"{name} is {columns[name][row]:g}, not a fraction." for row in np.flatnonzero(outside)}
        columns[name] = np.where(outside, np.nan, columns[name])
    return columns, wrong


def _check_counting(cells: Array, schema: LabelSchema, where: str) -> None:
    """Raise SampleError where classes that are numbered from 0 seem to be numbered from 1.

    Then there is no 0, but the number of classes itself, or all numbers below it.
    """
    answers = schema.questions[0].answers
    if schema.codes[: len(answers)] != tuple(map(str, range(len(answers)))):
        return
    numbers = to_float(np.array([_text(cell) for cell in cells], dtype=object))
    there = {int(number) for number in numbers if number >= 0 and number % 1 == 0}
    above = set(range(1, len(answers)))
    if 0 not in there and (len(answers) in there or (len(above) > 1 and above <= there)):
        raise SampleError(
            f"{where} holds no 0 ({answers[0]}), so its classes seem to be numbered from 1, and those of "
            f"{schema.name} are numbered from 0: write their names ({', '.join(answers)}), or subtract 1."
        )


def _log_columns(catalog: Catalog, schema: LabelSchema, used: Sequence[str]) -> None:
    """Log which columns labels are read from, and which are not read though they look like labels."""
    questions = [question.name for question in schema.questions] if not schema.is_classes else []
    others = [
        name
        for name in _given(catalog).values()
        if name not in (*used, *TOTAL_VOTES)
        and (_VOTES.fullmatch(plain_name(name)) or any(q in plain_name(name) for q in questions))
    ]
    unread = f"; not read, though they look like labels: {listed(others, _LISTED)}" if others else ""
    log.info("%s: labels are read from %s%s.", catalog.path, listed(used, _LISTED) or "no column", unread)


def _log_unusable_labels(cells: Array, wrong: Collection[int], where: str) -> None:
    """Log which labels are none of the schema's; their rows are left out."""
    if wrong:
        counts = Counter(_text(cells[row]) or "empty" for row in wrong)
        texts = listed((f"{text} ({count})" for text, count in counts.most_common()), _LISTED)
        log.warning("%s: rows whose label cannot be used are left out: %s.", where, texts)


def _given(catalog: Catalog) -> dict[str, str]:
    own = {name.lower() for name in catalog.galmorph_columns}
    return {name.lower(): name for name in catalog.column_names if name.lower() not in own}


def find_label_column(
    catalog: Catalog, label_column: str = "", before: Sequence[str] = (), after: Sequence[str] = ()
) -> str | None:
    """Return the column of one label a galaxy: the named one, else by the usual names; None where there is none.

    Parameters
    ----------
    before, after : sequence of str
        Further names, before and after the two surest usual ones.

    Raises
    ------
    SampleError
        If the named column does not exist.
    """
    if label_column:
        return column_named(catalog, label_column, "label_column")
    plain = {plain_name(name): name for name in reversed(_given(catalog).values())}
    names = (*before, *CLASS_COLUMNS[:2], *after, *CLASS_COLUMNS[2:])
    return next((plain[name.lower()] for name in names if name and name.lower() in plain), None)


def column_named(catalog: Catalog, name: str, option: str) -> str:
    """Return the column that an option names; case is ignored if no column has exactly this name.

    Raises
    ------
    SampleError
        If there is none.
    """
    if name in catalog.column_names:
        return name
    same = next((column for column in catalog.column_names if column.lower() == name.lower()), None)
    if same is None:
        raise SampleError(f"{catalog.path}: {option}: {registry.unknown('column', name, catalog.column_names)}")
    return same


def belongs(catalog: Catalog, schema: LabelSchema) -> bool:
    """Return whether a column of fractions of the schema is in a table."""
    return bool(_columns_of(catalog, schema))


def _columns_of(catalog: Catalog, schema: LabelSchema) -> dict[str, str]:
    """Return the columns of fractions of a schema, by the names that it has for them.

    A column beside one with the same name and ``_fraction``, or beside the question's number of votes, counts votes.
    """
    given = _given(catalog)
    plain: dict[str, list[str]] = {}
    for name in given.values():
        plain.setdefault(_plain(name), []).append(name)
    counted = {
        label
        for number, question in enumerate(schema.questions)
        for label in (f"{question.name}_{answer}" for answer in question.answers)
        # The number of votes on the first question goes with fractions too (TOTAL_VOTES).
        if (number and f"{question.name}_total_votes" in plain) or f"{label}_fraction" in plain
    }
    forms = [form for label in schema.labels for form in (label, f"p_{label}") if form not in counted]
    columns = {name: given[name.lower()] for name in (*forms, *schema.codes) if name.lower() in given}
    shares = {name: given.get(name.lower()) or _only(plain.get(_plain(name), ())) for name in schema.conditional}
    return columns | {name: column for name, column in shares.items() if column}


def _plain(name: str) -> str:
    """Return a column's name with ``_`` for hyphens, without the campaign that Zoobot writes after the question."""
    return _CAMPAIGN.sub("", name.strip().lower().replace("-", "_"))


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def labels_in(catalog: Catalog, label_column: str = "") -> str | tuple[str, ...]:
    """Return the kind of labels in a table: the name of a schema of galmorph, or the classes in one column.

    Raises
    ------
    SampleError
        If it has no column of labels, or one that holds no classes.
    """
    if not label_column and belongs(catalog, registry.load("schemas", TREE)):
        return TREE
    column = find_label_column(catalog, label_column)
    if column is None:
        named = quote(f"{catalog.path}:label_column=NAME")
        raise SampleError(
            f"{catalog.path} has no column of labels ({', '.join(CLASS_COLUMNS)}); it has "
            f"{', '.join(catalog.column_names[:12])}. Name the column with --data {named}, or the schema with --schema."
        )
    return class_texts(catalog.read([column])[column], f"{catalog.path}: the column {column}")


def unusable(labels: TableLabels, schema: LabelSchema) -> dict[int, str]:
    """Return the reason by row, for rows without a usable label, where labels are wanted."""
    if not schema.learns:
        return {}
    has_label = np.isfinite(labels.fractions).any(axis=1)
    if labels.lower is not None:
        has_label |= np.isfinite(labels.lower).any(axis=1)
    return {int(row): "no label is known." for row in np.flatnonzero(~has_label)} | labels.wrong


def class_texts(cells: Array, where: str) -> tuple[str, ...]:
    """Return the different classes in a column of one label a galaxy, in order: numbers by size, else by alphabet.

    Raises
    ------
    SampleError
        If these are not classes: numbers with fractions, several negative ones, or too many different values.
    """
    texts = dict.fromkeys(_text(cell) for cell in cells)
    texts = dict.fromkeys(text for text in texts if _words(text) not in _UNKNOWN)
    numbers = to_float(np.array(list(texts), dtype=object))
    if len(texts) and np.isfinite(numbers).all():
        negative = sorted(number for number in numbers if number < 0)
        if len(negative) > 1:
            raise SampleError(
                f"{where} holds negative numbers ({negative[0]:g}, {negative[1]:g}, ...), and a negative class is "
                "unknown: write names of classes instead, or numbers from 0."
            )
        if (numbers % 1 != 0).any():
            raise SampleError(f"{where} holds numbers with fractions ({numbers[numbers % 1 != 0][0]:g}): no classes.")
        texts = dict.fromkeys(str(int(number)) for number in sorted(numbers) if number >= 0)
    elif len(texts) <= MOST_CLASSES:
        texts = dict.fromkeys(sorted(texts, key=slug))
    if len(texts) > MOST_CLASSES:
        raise SampleError(f"{where} holds {len(texts)} different values: more than {MOST_CLASSES} are no classes.")
    return tuple(texts)


def slug(text: str) -> str:
    """Return a text as the name of a label: lower case, of a-z, 0-9 and ``_``; '' where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub("[^a-z0-9]+", "_", plain).strip("_")
    return f"class_{name}" if name.isdigit() else name


def class_numbers(cells: Array, schema: LabelSchema) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return the numbers of classes that are written as numbers from 0, names or codes, and the errors by row.

    Parameters
    ----------
    cells : ndarray, shape (n,)
    schema : LabelSchema
        Its first question has the classes. Where their codes are whole numbers, these are the numbers.

    Returns
    -------
    ndarray, float64, shape (n,)
        NaN where unknown.
    dict
        Row to the reason why its cell is not a class.
    """
    answers = schema.questions[0].answers
    codes = schema.codes[: len(answers)]
    numbering = {_words(name): number for names in (codes, answers) for number, name in enumerate(names)}
    numbered = all(code.isdecimal() for code in codes)
    texts = [_text(cell) for cell in cells]
    words = [_words(text) for text in texts]
    numbers = to_float(np.array(texts, dtype=object))
    if numbered:
        numbers = np.where(numbers < 0, numbers, np.nan)
    by_name = [
        numbering.get(w, n if np.isfinite(n) else numbering.get(slug(w), n))
        for w, n in zip(words, numbers, strict=True)
    ]
    numbers = np.array(by_name, dtype=float)
    known_class = np.isin(numbers, np.arange(len(answers)))
    wrong = np.flatnonzero(~known_class & ~(numbers < 0) & ~np.isin(words, _UNKNOWN))
    classes = f"{', '.join(answers)} ({', '.join(codes)})" if numbered else ", ".join(answers)
    if numbered and codes == tuple(map(str, range(len(answers)))):
        classes = f"{', '.join(answers)} (0 to {len(answers) - 1})"
    reasons = {int(row): f"{cells[row]!s} is none of the classes {classes}." for row in wrong}
    return np.where(known_class, numbers, np.nan), reasons


def majorities(cells: Array, schema: LabelSchema) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Return the lower bounds of fractions where a galaxy's label is the name of an answer: a majority gave it.

    Parameters
    ----------
    cells : ndarray of str objects, shape (n,)
        A label of the schema, its code, or an answer that only one question has (``artifact``); empty where unknown.

    Returns
    -------
    ndarray, float32, shape (n, n_labels)
        NaN where there is no bound.
    dict
        Row to the reason why its cell is none of these.
    """
    names = [answer for question in schema.questions for answer in question.answers]
    index_of = {name: index for index, name in enumerate(names) if names.count(name) == 1}
    index_of |= {label: index for index, label in enumerate(schema.labels)}
    index_of |= {code.lower(): index for index, code in enumerate(schema.codes)}
    lower = np.full((len(cells), len(schema.labels)), np.nan, np.float32)
    wrong: dict[int, str] = {}
    for row, word in enumerate(map(_words, map(_text, cells))):
        if word in index_of:
            lower[row, index_of[word]] = MAJORITY
        elif word not in _UNKNOWN:
            wrong[row] = f"{cells[row]!s} is no label of the schema {schema.name!r}, for example {schema.labels[0]!r}."
    return lower, wrong


def check_names(texts: Collection[str], where: str) -> None:
    """Raise SampleError where the names of two classes, or of one, cannot become names of columns."""
    by_slug: dict[str, str] = {}
    for text in texts:
        if not (name := slug(text)):
            raise SampleError(
                f"{where}: the class {text!r} has no letters a-z or digits: give it a name that has some."
            )
        other = by_slug.setdefault(name, text)
        if _words(other) != _words(text):
            raise SampleError(f"{where}: the classes {other!r} and {text!r} would both be {name!r}: rename one.")


def _text(cell: object) -> str:
    """Return a cell as text, a whole number without a fraction; '' where it is masked."""
    if cell is np.ma.masked:
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _words(text: str) -> str:
    return "_".join(text.lower().split())
