"""Label schemas: questions, answers and the tree that they form, as data.

Ten classes are a tree of one question; the Galaxy Zoo 2 decision tree has eleven. Everything else in galmorph
(the network's outputs, the losses, the output columns, the scores) follows from the schema.
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import GalmorphError, SampleError

# A short name uses an answer only if its cumulative probability (or vote fraction) is at least this.
SURE = 0.5
UNCERTAIN = "uncertain"
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*\Z")
# The most paths of answers that are compared for the longest name; larger trees use the sum of the longest words.
_MOST_PATHS = 100_000


def squared_errors(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the squared errors of fractions, 0 where the truth is unknown (NaN), of the same shape."""
    return np.where(np.isfinite(truth), predicted - np.nan_to_num(truth), 0.0) ** 2


def confusion(true: NDArray[np.int64], best: NDArray[np.int64], n_labels: int) -> NDArray[np.int64]:
    """Return the confusion matrix, shape (n_labels, n_labels): true classes in rows, predicted ones in columns."""
    return np.bincount(true * n_labels + best, minlength=n_labels**2).reshape(n_labels, n_labels)


@dataclass(frozen=True)
class Question:
    """One question of a decision tree.

    Attributes
    ----------
    name : str
        Lower case, ``[a-z0-9_]``.
    answers : tuple of str
        The answers, in the order of the publication.
    asked_after : tuple of str
        The labels (``<question>_<answer>``) after which it is asked; empty for a root.
    words : tuple of str
        The word that each answer adds to a galaxy's short name (``morph_label``); ``""`` adds none.
    """

    name: str
    answers: tuple[str, ...]
    asked_after: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelSchema:
    """The labels of a model: questions and their answers.

    Attributes
    ----------
    name : str
        Name of the schema, that of its file in ``schemas/``.
    description, reference : str
        What the labels are and the publication that defines them.
    questions : tuple of Question
        In an order in which every question comes after those that it depends on.
    codes : tuple of str
        The publication's name of each label (``Class1.1`` for Galaxy Zoo, the class number for Galaxy10).
    conditional : Mapping
        Columns of other publications, ``{column: label}``, with an answer's share *among those who were asked*. If
        there are two answers, the other one has the rest. See :meth:`from_columns`.
    class_column : str
        Name of the publication's column that numbers the first question's answers from 0; empty where there is none.
    meaning : Mapping
        What a class means in other schemas: by name of the schema, for each class the minimum fraction of some labels.
    artifact : str
        The label of pictures without a galaxy; empty where there is none.
    learns : bool
        False: labels are not read; all are NaN.
    """

    name: str
    description: str
    reference: str
    questions: tuple[Question, ...]
    codes: tuple[str, ...]
    conditional: Mapping[str, str] = field(default_factory=dict)
    class_column: str = ""
    meaning: Mapping[str, tuple[Mapping[str, float], ...]] = field(default_factory=dict)
    artifact: str = ""
    learns: bool = True

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for question in self.questions:
            labels = self._labels_of(question)
            if missing := [label for label in question.asked_after if label not in seen]:
                raise ValueError(
                    f"{self.name}: {question.name} is asked after labels that come later or do not exist "
                    f"({', '.join(missing)}; before it come {', '.join(sorted(seen)) or 'none'})"
                )
            if question.words and len(question.words) != len(question.answers):
                raise ValueError(f"{self.name}: {question.name} needs one word an answer")
            if len(seen | set(labels)) < len(seen) + len(labels) or not all(_NAME.match(label) for label in labels):
                raise ValueError(
                    f"{self.name}: {question.name} has repeated or unfit labels: {', '.join(labels)} (they are of a-z, "
                    "0-9 and _)"
                )
            seen.update(labels)
        if len(self.codes) != len(self.labels):
            raise ValueError(f"{self.name}: {len(self.labels)} labels but {len(self.codes)} codes")

    def _labels_of(self, question: Question) -> tuple[str, ...]:
        if len(self.questions) == 1:
            return question.answers
        return tuple(f"{question.name}_{answer}" for answer in question.answers)

    @property
    def is_classes(self) -> bool:
        """Whether the labels are plain classes: one question, one true answer."""
        return len(self.questions) == 1

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All labels, question after question; output columns are ``p_<label>``."""
        return tuple(label for question in self.questions for label in self._labels_of(question))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The slice of the labels that holds each question's answers."""
        ends = np.cumsum([len(question.answers) for question in self.questions])
        return tuple(slice(int(end) - len(q.answers), int(end)) for q, end in zip(self.questions, ends, strict=True))

    @cached_property
    def parents(self) -> tuple[tuple[int, ...], ...]:
        """For each question the indices of the labels after which it is asked; empty for a root."""
        return tuple(tuple(self.labels.index(label) for label in q.asked_after) for q in self.questions)

    def reached(self, fractions: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the probability (or frequency) that each question was reached.

        Parameters
        ----------
        fractions : ndarray, shape (n, n_labels)
            Probabilities or vote fractions in cumulative form.

        Returns
        -------
        ndarray, shape (n, n_questions)
            1 for a root, else the sum of the parent answers; NaN where one of those is unknown.
        """
        return np.stack(
            [fractions[:, p].sum(axis=1) if p else np.ones(len(fractions), fractions.dtype) for p in self.parents],
            axis=1,
        )

    def answers(self, fractions: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return each answer's share among those who were asked: cumulative fractions divided by their question's.

        Parameters
        ----------
        fractions : ndarray, shape (n, n_labels)

        Returns
        -------
        ndarray, shape (n, n_labels)
            NaN where a question was never asked.
        """
        reached = self.reached(fractions)
        shares = np.full_like(fractions, np.nan)
        for q, columns in enumerate(self.slices):
            asked = reached[:, q] > 0
            shares[asked, columns] = fractions[asked, columns] / reached[asked, q, None]
        return shares

    def short_names(self, fractions: NDArray[np.floating]) -> NDArray[np.object_]:
        """Name each galaxy: for classes the most probable one, for a tree the path of most probable answers.

        The path starts at the first question and continues to every question that is asked after an answer on it, but
        only while the cumulative fraction of the answer is `SURE` or more. If the first answer is below that, the name
        is `UNCERTAIN`.

        Parameters
        ----------
        fractions : ndarray, shape (n, n_labels)
            Probabilities in cumulative form; a row of NaN gives ``""``.
        """
        answered = np.zeros((len(self.labels), len(fractions)), dtype=bool)
        followed = {label for parents in self.parents for label in parents}
        best: list[NDArray[np.int64]] = []
        # A name as a number: a digit for each question with words, 0 where it is not on the path.
        code = np.zeros(len(fractions), dtype=np.int64)
        for question, columns, parents in zip(self.questions, self.slices, self.parents, strict=True):
            answer, share = _largest(fractions[:, columns])
            asked = answered[list(parents)].any(axis=0) if best else np.ones(len(fractions), dtype=bool)
            sure = asked & (share >= SURE)
            for label in followed.intersection(range(columns.start, columns.stop)):
                answered[label] = sure & (answer == label - columns.start)
            if self.is_classes or question.words:
                code = code * (len(question.answers) + 1) + np.where(sure, answer + 1, 0)
            best.append(np.where(sure, columns.start + answer, -1))
        _, rows, which = np.unique(code, return_index=True, return_inverse=True)
        names = np.array([self._name([int(answer[row]) for answer in best]) for row in rows], dtype=object)[
            which.reshape(-1)
        ]
        names[np.isnan(fractions).any(axis=1)] = ""
        return names

    @cached_property
    def name_width(self) -> int:
        """The length of the longest short name."""
        ranges = [
            range(columns.start, columns.stop if question.words or self.is_classes else columns.start + 1)
            for question, columns in zip(self.questions, self.slices, strict=True)
        ]
        if math.prod(map(len, ranges)) > _MOST_PATHS:
            return max(len(UNCERTAIN), sum(1 + max(map(len, q.words or q.answers)) for q in self.questions))
        paths = [self._name(path) for path in itertools.product(*ranges)]
        return max(map(len, [UNCERTAIN, *self.questions[0].answers, *paths]))

    def _name(self, best: Sequence[int]) -> str:
        """Name the path of answers (label indices by question, -1: none is sure)."""
        if best[0] < 0:
            return UNCERTAIN
        if self.is_classes:
            return self.labels[best[0]]
        path: set[int] = set()
        words = []
        for question, columns, parents, answer in zip(self.questions, self.slices, self.parents, best, strict=True):
            if answer >= 0 and (path.intersection(parents) or not path):
                path.add(answer)
                if question.words:
                    words.append(question.words[answer - columns.start])
        return "_".join(word for word in words if word) or self.questions[0].answers[best[0]]

    def to_mapping(self) -> dict[str, Any]:
        """Return the schema as plain data, from which :func:`schema_from_mapping` makes it again."""
        values = {name: value for name, value in asdict(self).items() if value not in ("", {}, ()) and name != "learns"}
        values["questions"] = [
            {k: list(v) if k != "name" else v for k, v in q.items() if v} for q in values["questions"]
        ]
        values["codes"] = list(self.codes)
        if self.meaning:
            values["meaning"] = {other: [dict(least) for least in classes] for other, classes in self.meaning.items()}
        return values

    @property
    def has_classes(self) -> bool:
        """Whether the first question has one true answer: plain classes, or classes with attributes beside them."""
        return self.is_classes or bool(self.class_column)

    def classes(self, fractions: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the most probable answer of the first question, shape (n,); -1 where it has no label."""
        first = fractions[:, self.slices[0]]
        return np.where(np.isnan(first).all(axis=1), -1, np.nan_to_num(first, nan=-1.0).argmax(axis=1))

    def from_columns(self, columns: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
        """Collect fractions, in cumulative form, from the columns of a table of labels.

        Columns may be named by label, ``p_<label>`` or code (cumulative form), or by the names in
        :attr:`conditional` (share among those asked; turned into the cumulative form where the parents have labels), or
        :attr:`class_column`. A negative share or class means unknown, as in catalogs.

        Parameters
        ----------
        columns : mapping of name to array, shape (n,)

        Returns
        -------
        ndarray, float32, shape (n, n_labels)
            NaN where unknown.

        Raises
        ------
        SampleError
            If no column belongs to this schema, or a class number to none of its classes.
        """
        n_rows = len(next(iter(columns.values()))) if columns else 0
        fractions = np.full((n_rows, len(self.labels)), np.nan)
        if not self.learns:
            return fractions.astype(np.float32)
        any_column = self.class_column in columns
        if any_column:
            self._set_classes(fractions, np.asarray(columns[self.class_column], dtype=float))
        for index, (label, code) in enumerate(zip(self.labels, self.codes, strict=True)):
            for name in (label, f"p_{label}", code):
                if name in columns:
                    fractions[:, index] = columns[name]
                    any_column = True
        for name, label in self.conditional.items():
            if name in columns:
                share = np.asarray(columns[name], dtype=float)
                self._set_share(fractions, label, np.where(share < 0, np.nan, share))
                any_column = True
        if not any_column:
            raise SampleError(
                f"No column belongs to the schema {self.name!r}. Name the columns by label or code, for example "
                f"{self.labels[0]!r} or {self.codes[0]!r}."
            )
        return fractions.astype(np.float32)

    def from_classes(self, numbers: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the fractions, float32 (n, n_labels), of galaxies with a class (first question, from 0).

        NaN stands for an unknown class; answers of other questions are unknown.
        """
        fractions = np.full((len(numbers), len(self.labels)), np.nan)
        self._set_classes(fractions, np.asarray(numbers, dtype=float))
        return fractions.astype(np.float32)

    def _set_classes(self, fractions: NDArray[np.float64], numbers: NDArray[np.float64]) -> None:
        n_classes = len(self.questions[0].answers)
        has_class = np.isfinite(numbers) & (numbers >= 0)
        if not np.isin(numbers[has_class], np.arange(n_classes)).all():
            raise SampleError(f"The column {self.class_column!r} holds more than the classes 0 to {n_classes - 1}.")
        fractions[has_class, :n_classes] = np.eye(n_classes)[numbers[has_class].astype(int)]

    def _set_share(self, fractions: NDArray[np.float64], label: str, share: NDArray[np.float64]) -> None:
        index = self.labels.index(label)
        q = next(q for q, columns in enumerate(self.slices) if columns.start <= index < columns.stop)
        reached = self.reached(fractions)[:, q]
        fractions[:, index] = share * reached
        others = [i for i in range(self.slices[q].start, self.slices[q].stop) if i != index]
        if len(others) == 1:  # two answers: the other one has the rest
            fractions[:, others[0]] = (1 - share) * reached

    def largest_tree_error(self, fractions: NDArray[np.floating]) -> float:
        """Return the largest difference between a question's sum and its parents' (debiased votes need not add up)."""
        reached = self.reached(fractions)
        sums = np.stack([fractions[:, columns].sum(axis=1) for columns in self.slices], axis=1)
        error = np.abs(sums - reached)
        return float(np.nanmax(error)) if np.isfinite(error).any() else 0.0


def schema_from_mapping(values: Mapping[str, Any], where: str) -> LabelSchema:
    """Make a schema from plain data, as in a file or a model's card.

    Parameters
    ----------
    values : mapping
        Fields of `LabelSchema`; ``questions`` is a list of mappings with the fields of `Question`. Missing fields
        have their defaults: the ``codes`` are the labels.
    where : str
        Where the data come from, for messages.

    Raises
    ------
    GalmorphError
        If something is missing, unknown, of another kind or contradictory.
    """
    given = _checked(values, [f.name for f in fields(LabelSchema) if f.name != "learns"], where)
    entries = given.pop("questions", None)
    if not isinstance(entries, list | tuple) or not entries or not all(isinstance(e, Mapping) for e in entries):
        raise GalmorphError(f"{where}: there are no questions: write [[questions]] with name and answers for each one.")
    questions = tuple(_question(entry, where) for entry in entries)
    for name in ("name", "description", "reference", "class_column", "artifact"):
        if not isinstance(given.setdefault(name, ""), str):
            raise GalmorphError(f"{where}: {name} is text in quotes, not {given[name]!r}.")
    if not _NAME.match(given["name"]):
        raise GalmorphError(f"{where}: name is of a-z, 0-9 and _, not {given['name']!r}.")
    codes = _texts(given.pop("codes", ()), "codes", where)
    try:
        draft = LabelSchema("", "", "", questions, codes=("",) * sum(len(q.answers) for q in questions))
        schema = LabelSchema(questions=questions, codes=codes or draft.labels, **given)
    except ValueError as error:
        raise GalmorphError(f"{where}: {str(error).removeprefix(': ')}.") from error
    if not isinstance(schema.conditional, Mapping) or not set(schema.conditional.values()) <= set(schema.labels):
        raise GalmorphError(f"{where}: conditional gives columns the labels {', '.join(schema.labels)}.")
    if schema.artifact and schema.artifact not in schema.labels:
        raise GalmorphError(
            f"{where}: artifact is one of the labels {', '.join(schema.labels)}, not {schema.artifact!r}."
        )
    if len(set(schema.codes)) < len(schema.codes):
        raise GalmorphError(f"{where}: a code stands for two labels.")
    return schema


def read_schema(path: Path) -> LabelSchema:
    """Read a schema from a TOML file; without a ``name`` it has the file's.

    Raises
    ------
    GalmorphError
        If the file is missing, is not TOML, or holds no schema.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GalmorphError(f"The schema {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GalmorphError(f"{path} cannot be read as TOML: {error}.") from error
    return schema_from_mapping({"name": path.stem.lower(), **values}, str(path))


def _question(entry: Mapping[str, Any], where: str) -> Question:
    given = _checked(entry, [f.name for f in fields(Question)], f"{where}, a question")
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise GalmorphError(f"{where}: the name of a question is of a-z, 0-9 and _, not {name!r}.")
    after = given.get("asked_after", ())
    answers, words, asked_after = (
        _texts(value, f"{key} of {name}", where)
        for key, value in (
            ("answers", given.get("answers", ())),
            ("words", given.get("words", ())),
            ("asked_after", (after,) if isinstance(after, str) else after),
        )
    )
    if len(answers) < 2:
        raise GalmorphError(f"{where}: the question {name} needs two answers or more.")
    return Question(name, answers, asked_after, words)


def _texts(value: Any, what: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise GalmorphError(f'{where}: {what} is a list of texts, such as ["yes", "no"], not {value!r}.')
    return tuple(value)


def _checked(values: Mapping[str, Any], allowed: Collection[str], where: str) -> dict[str, Any]:
    if unknown := [name for name in values if name not in allowed]:
        raise GalmorphError(f"{where}: there is no field {unknown[0]!r}; there are {', '.join(allowed)}.")
    return dict(values)


def _largest(values: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Return the column of each row's largest value (the first of equal ones), and the value; fast, by columns."""
    which, top = np.zeros(len(values), dtype=np.int64), values[:, 0]
    for i in range(1, values.shape[1]):
        larger = values[:, i] > top
        which[larger] = i
        top = np.where(larger, values[:, i], top)
    return which, top
