"""Drawing: a galaxy in a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from galmorph.reports.show import Galaxy

# A galaxy in a terminal: columns of the picture, of an answer's name, and of a full bar; characters from black to
# white.
_SIDE, _NAME, _BAR = 36, 19, 12
_GREYS = " .:-=+*#%@"


def in_terminal(galaxy: Galaxy, *, colours: bool) -> Table:
    """Return picture and probabilities side by side, in 80 columns: blocks of colour, or characters of grey."""
    texts = Text()
    question = None
    for answer in galaxy.answers:
        if answer.question != question:
            question = answer.question
            texts.append(f"{question.replace('_', ' ')}\n" if question else "", style="bold")
        bar = "\u2588" * round(_BAR * answer.share) if colours else "#" * round(_BAR * answer.share)
        texts.append(f" {answer.name.replace('_', ' ')[:_NAME]:{_NAME}} {answer.share:4.2f} {bar}\n")
    grid = Table(title=galaxy.title, title_justify="left", box=None, show_header=False, pad_edge=False)
    grid.add_column(width=_SIDE, no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_row(_drawn(galaxy.picture, colours=colours), texts or Text("no probability"))
    return grid


def _drawn(picture: NDArray[np.uint8] | None, *, colours: bool) -> Text:
    """Return a picture as text: two pixels a character, one above the other, or one grey pixel a character."""
    if picture is None:
        return Text("no picture")
    height = _SIDE if colours else _SIDE // 2  # a character is twice as high as wide
    small = np.asarray(Image.fromarray(picture).resize((_SIDE, height), Image.Resampling.LANCZOS))
    text = Text()
    if not colours:
        grey = small.mean(axis=2) / 256
        for line in grey:
            text.append("".join(_GREYS[int(value * len(_GREYS))] for value in line) + "\n")
        return text
    for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("\u2580", style=Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    return text
