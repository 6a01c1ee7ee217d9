"""Show: one galaxy as the model sees it, with its probabilities, in a terminal, a notebook or as a PNG file."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.opening import kind_of
from galmorph.classification.prepare import Prepared, colour_picture
from galmorph.classification.reading.rows import Row
from galmorph.classification.results import FLAGS, Results, read_results
from galmorph.classification.seen import card_of, seen
from galmorph.classification.sources import cutout_name
from galmorph.errors import GalmorphError
from galmorph.files.pictures import is_picture, jpeg
from galmorph.files.remote import Remote, is_remote, local
from galmorph.files.writing import write_file
from galmorph.images.picture import PictureWidth
from galmorph.models import card as cards
from galmorph.schemas import LabelSchema

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A question is shown if it is asked with this probability or more.
_ASKED = 0.5
_CLASSES = 8
_DPI = 110


@dataclass(frozen=True)
class Answer:
    """An answer: its question ('' of plain classes), its name, and its share among those who are asked."""

    question: str
    name: str
    share: float


@dataclass(frozen=True, eq=False)
class Galaxy:
    """A galaxy as the model sees it, with its probabilities.

    Attributes
    ----------
    id, label, model : str
    schema : LabelSchema
    p : ndarray, float32, shape (n_labels,)
        Cumulative probabilities; NaN where there are none.
    flag : int
    picture : ndarray, uint8, shape (y, x, 3), or None
        The framed colour picture, north up.
    reason : str
        Why there is no picture.
    """

    id: str
    label: str
    model: str
    schema: LabelSchema
    p: NDArray[np.float32]
    flag: int
    picture: NDArray[np.uint8] | None = None
    reason: str = ""

    @property
    def answers(self) -> list[Answer]:
        """The answers to show, by share: of each question that is probably asked, or the most probable classes."""
        if not np.isfinite(self.p).any():
            return []
        if self.schema.is_classes:
            best = np.argsort(-np.nan_to_num(self.p, nan=-1.0), kind="stable")[:_CLASSES]
            return [Answer("", self.schema.labels[i], float(self.p[i])) for i in best if np.isfinite(self.p[i])]
        shares, reached = self.schema.answers(self.p[None])[0], self.schema.reached(self.p[None])[0]
        shown = []
        for question, part, asked in zip(self.schema.questions, self.schema.slices, reached, strict=True):
            if not asked >= _ASKED:
                continue
            pairs = sorted(zip(question.answers, shares[part].tolist(), strict=True), key=lambda pair: -pair[1])
            shown += [Answer(question.name, name, share) for name, share in pairs if np.isfinite(share)]
        return shown

    @property
    def flags(self) -> list[str]:
        """The names of the flags that are set."""
        return [(flag.name or "").lower() for flag in FLAGS if self.flag & flag.value]

    @property
    def title(self) -> str:
        """Its identifier, label and flags in one line."""
        flags = f" ({', '.join(self.flags)})" if self.flags else ""
        return f"{self.id}: {self.label or 'no probability'}{flags}"

    def figure(self) -> Figure:
        """Return picture and probabilities side by side."""
        from matplotlib.figure import Figure

        figure = Figure()
        self.draw(figure)
        return figure

    def draw(self, figure: Figure) -> None:
        """Draw picture and probabilities side by side into an empty figure."""
        answers = self.answers
        figure.set_size_inches(8, max(3.2, 0.9 + 0.21 * (len(answers) + len({a.question for a in answers}))))
        image, bars = figure.subplots(1, 2, width_ratios=(1, 1.1))
        image.set_axis_off()
        if self.picture is not None:
            image.imshow(self.picture)
        else:
            image.text(0.5, 0.5, "no picture", ha="center", va="center")
        _draw_bars(bars, answers)
        figure.suptitle(self.title, fontsize=10)
        figure.tight_layout()

    def png(self) -> bytes:
        """Return the figure as a PNG file."""
        file = io.BytesIO()
        self.figure().savefig(file, format="png", dpi=_DPI)
        return file.getvalue()

    def __repr__(self) -> str:
        best: dict[str, str] = {}
        for answer in self.answers:
            best.setdefault(answer.question, f"{answer.question} {answer.name} {answer.share:.2f}".strip())
        return f"<Galaxy {self.title}: {', '.join(best.values())}>"

    def _repr_html_(self) -> str:
        picture = ""
        if self.picture is not None:
            content = base64.b64encode(jpeg(self.picture)).decode()
            picture = f"<img alt='{escape(self.id)}' width='192' src='data:image/jpeg;base64,{content}'>"
        before = ["", *(answer.question for answer in self.answers)]
        rows = "".join(
            f"<tr><td>{escape(answer.question.replace('_', ' ')) if answer.question != last else ''}</td>"
            f"<td>{escape(answer.name.replace('_', ' '))}</td>"
            f"<td style='text-align:right'>{answer.share:.2f}</td>"
            f"<td><div style='background:#4477aa;height:.7em;width:{100 * answer.share:.0f}px'></div></td></tr>"
            for answer, last in zip(self.answers, before, strict=False)
        )
        return (
            f"<p>{escape(self.title)}</p><div style='display:flex;gap:16px;align-items:flex-start'>{picture}"
            f"<table style='margin:0'>{rows}</table></div>"
        )


def _draw_bars(axes: Any, answers: Sequence[Answer]) -> None:
    at, question = 0.0, None
    for answer in answers:
        if answer.question != question:
            question = answer.question
            at += 1.0 if question else 0.0
            axes.text(0, at - 0.25, question.replace("_", " "), fontsize=8, weight="bold", va="center")
            at += 0.6 if question else 0.0
        axes.barh(at, answer.share, height=0.75, color="#4477aa")
        axes.text(-0.02, at, answer.name.replace("_", " "), fontsize=8, ha="right", va="center")
        axes.text(answer.share + 0.02, at, f"{answer.share:.2f}", fontsize=8, va="center")
        at += 1.0
    axes.set_xlim(0, 1.15)
    axes.set_ylim(at, -0.7)
    axes.set_axis_off()


def show(
    what: Any,
    row: int | str | None = None,
    *,
    model: str | Path | None = None,
    cutouts: str | Path | None = None,
    images: Sequence[str | Path] = (),
    prefix: str | None = None,
    size_column: str | None = None,
    width_r90: float | None = None,
    out: str | Path | None = None,
) -> Galaxy:
    """Show a galaxy as the model sees it, with its probabilities.

    Parameters
    ----------
    what : path, astropy Table or data frame
        A cutout (FITS, JPEG, PNG), which is classified; or a result of `galmorph.classify`.
    row : int or str, optional
        For a result: the number of the row, from 0, or the identifier of the galaxy.
    model : str or path, optional
        Name or file of the model; default: that of the result, or the default model for a cutout.
    cutouts, images, prefix, size_column
        For a result, as for `galmorph.report`.
    width_r90 : float, optional
        For a cutout that is a picture: its full width in radii of the galaxy.
    out : path, optional
        A PNG file to write.

    Returns
    -------
    Galaxy
        It shows itself in a notebook.

    Raises
    ------
    GalmorphError
        If `what` is neither of these, or there is no such row.
    """
    folder = None if cutouts is None else Remote.of(cutouts) if is_remote(cutouts) else Path(cutouts)
    name = None if model is None else str(model)
    is_file = isinstance(what, str | os.PathLike)
    if not is_file or (not is_picture(Path(what)) and kind_of(local(what)) == "catalog"):
        galaxy = _of_result(read_results(what, prefix=prefix, size_column=size_column), row, folder, name, images)
    elif row is not None:
        raise GalmorphError(f"{what} is a cutout, and has no rows: leave out {row!r}.")
    else:
        galaxy = _of_cutout(str(what), name, width_r90)
    if out is not None:
        if Path(out).suffix.lower() != ".png":
            raise GalmorphError(f"--out {out}: the picture is a PNG file, name it *.png.")
        write_file(Path(out), galaxy.png())
    return galaxy


def _of_result(
    results: Results,
    row: int | str | None,
    folder: Path | Remote | None,
    model: str | None,
    images: Sequence[str | Path],
) -> Galaxy:
    number = _row_of(results, row)
    card, _ = card_of(results, model)
    _, prepared = next(iter(seen(results, [number], card, folder, images=images)))
    return Galaxy(
        id=str(results.id[number]),
        label=str(results.label[number]),
        model=results.card("GMMODEL"),
        schema=results.schema,
        p=results.p[number],
        flag=int(results.flag[number]),
        picture=_picture(prepared),
        reason=prepared.reason,
    )


def _row_of(results: Results, row: int | str | None) -> int:
    path = results.name
    if row is None:
        raise GalmorphError(f"Say which galaxy of {path}: its identifier, or the number of its row (0 is the first).")
    if isinstance(row, str) and (same := np.flatnonzero(results.id == row).tolist()):
        return int(same[0])
    if str(row).isdecimal() and int(row) < len(results):
        return int(row)
    raise GalmorphError(f"{path} has no galaxy {row!r}: it has {len(results)} rows, from 0, with identifiers.")


def _picture(prepared: Prepared) -> NDArray[np.uint8] | None:
    if prepared.flux is None:
        return None
    return cast("NDArray[np.uint8]", (colour_picture(prepared) * 255).round().astype(np.uint8))


def _of_cutout(path: str, model: str | None, width_r90: float | None) -> Galaxy:
    from galmorph.classification.classify import classify_one

    file = Remote.of(path) if is_remote(path) else Path(path)
    width = PictureWidth() if width_r90 is None else PictureWidth(r90=width_r90)
    prepared, values, card = classify_one(Row(file), model or cards.DEFAULT_MODEL, width)
    schema = card.label_schema
    return Galaxy(
        id=cutout_name(Path(file.name)),
        label=str(values["morph_label"]),
        model=card.name,
        schema=schema,
        p=np.array([values[f"p_{label}"] for label in schema.labels], np.float32),
        flag=int(values["morph_flag"]),
        picture=_picture(prepared),
        reason=prepared.reason,
    )
