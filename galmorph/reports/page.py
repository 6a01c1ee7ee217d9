"""The page of a report: one HTML file that opens from disk and makes no request to the network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import galmorph
from galmorph.errors import OutputError
from galmorph.files.writing import write_errors
from galmorph.training.evaluation import figures

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

# The mark of a report, within the first bytes of the page.
GENERATOR = '<meta name="generator" content="galmorph'
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    out : str
        The HTML file.
    rows, pictures : int
        Number of galaxies in the catalog or the evaluation; number of pictures in the report.
    figures : tuple of str
        The files of ``--figures``.
    notes : tuple of str
        What the report could not show, and why.
    """

    out: str
    rows: int
    pictures: int
    figures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_out(out: Path, inputs: Iterable[Path], *, overwrite: bool = False) -> None:
    """Raise OutputError if a report would replace one of `inputs`, or another file without `overwrite`."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"The report {out} is a web page: end its name with .html.")
    check_replaceable(out, inputs, GENERATOR.encode(), "report of galmorph", overwrite=overwrite)


def check_replaceable(out: Path, inputs: Iterable[Path], mark: bytes, kind: str, *, overwrite: bool) -> None:
    """Raise OutputError where an output has no folder, or a file of its name may not be replaced.

    Such a file is one of `inputs`, or does not begin with `mark` and `overwrite` is not given. `kind` names the file.
    """
    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} of {out.name} does not exist: make it, or choose another name.")
    if not os.path.lexists(out):
        return
    if any(path.exists() and out.exists() and path.samefile(out) for path in inputs):
        raise OutputError(f"{out} is an input of this command: choose another name for the output.")
    if not stat.S_ISREG(out.lstat().st_mode):
        raise OutputError(f"{out} is not a regular file: it is not replaced. Choose another name.")
    with out.open("rb") as file:
        is_ours = mark in file.read(_HEAD_BYTES)
    if not is_ours and not overwrite:
        raise OutputError(
            f"{out} exists and is not a {kind}: it is not replaced. Choose another name, or give --overwrite."
        )


def render(template: str, scripts: Sequence[str], context: Mapping[str, Any]) -> str:
    """Return a page. Values are escaped, and its content security policy allows no request and no other script.

    Parameters
    ----------
    scripts : sequence of str
        Names of files in ``templates/``.
    context : mapping
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("galmorph.reports", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)

    def text(name: str) -> str:
        return loader.get_source(environment, name)[0]

    sources = [text(name) for name in scripts]
    hashes = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in sources]
    return environment.get_template(template).render(
        context,
        version=galmorph.__version__,
        style=Markup(text("report.css")),
        scripts=[Markup(source) for source in sources],
        script_hashes=Markup(" ".join(f"'sha256-{value}'" for value in hashes)),
    )


def inline_svg(figure: Figure) -> Markup:
    """Return a figure as markup for the page, with the page's own colours for black, blue and the background."""
    import matplotlib
    from markupsafe import Markup

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": str(id(figure))}):
        figure.savefig(file, format="svg", transparent=True, dpi=150, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    # Colours of text and bars come from the page, so that they fit its dark mode too.
    text = text.replace("#000000", "currentColor").replace(figures.BLUE.lower(), "var(--bar)")
    return Markup(re.sub(r"\n\s*", "\n", text))


def data_uri(kind: str, content: bytes) -> str:
    """Return the content of a picture (``jpeg`` or ``png``) as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def save_figures(named: Mapping[str, Figure], folder: Path) -> tuple[str, ...]:
    """Write figures as PNG and PDF, and return their paths.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    files = [folder / f"{name}.{suffix}" for name in named for suffix in ("png", "pdf")]
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        figures.save(named[file.stem], file)
    return tuple(map(str, files))
