"""Documents as sessions: the commands of a page are run, and what they print is compared with what the page shows.

In a block of the language ``console`` a line that begins with ``$ `` is a command and the lines below it are what it
prints. ``python tests/support/docrun.py PAGE`` writes what the commands print now into the page.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAND_IN = "http://127.0.0.1:8765"
# What cannot be run here: it needs the network, a window, or a cluster.
NOT_RUN = ("git clone", ". .venv", "topcat")
_FENCE = re.compile(r"^(`{3,})(\{?[\w-]*\}?)\s*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d+\.\d+")
# Shown only where there is no terminal.
_PROGRESS = re.compile(r"^[a-z]+: \d+ of \d+.*$\n?", re.MULTILINE)
_TIMES = re.compile(r"\d+(\.\d+)? (s\b|a second)")


@dataclass(frozen=True)
class Step:
    """A command and the lines that the page shows below it; `start` and `end` are where those lie in the text."""

    command: str
    shown: str
    start: int
    end: int


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """Return the position and the body of each fenced block of a language (``''``: without one)."""
    return [(match.start(3), match[3]) for match in _FENCE.finditer(text) if match[2] == language]


def steps(text: str) -> list[Step]:
    """Return the steps of a page's console blocks."""
    found = []
    for offset, body in blocks(text, "console"):
        lines = body.splitlines(keepends=True)
        index = 0
        while index < len(lines):
            command, index = _command(lines, index)
            begin = index
            while index < len(lines) and not lines[index].startswith("$ "):
                index += 1
            start = offset + sum(map(len, lines[:begin]))
            shown = "".join(lines[begin:index])
            found.append(Step(command, shown, start, start + len(shown)))
    return found


def _command(lines: list[str], index: int) -> tuple[str, int]:
    """Return the command that begins at a line, with its continuations or its here-document, and the line behind it."""
    first = lines[index]
    if not first.startswith("$ "):
        raise ValueError(f"a console block begins with a command, not with {first!r}")
    command = first[2:]
    index += 1
    if "<<'EOF'" in command:
        while not command.endswith("\nEOF\n"):
            command += lines[index]
            index += 1
    while command.endswith("\\\n"):
        command += lines[index]
        index += 1
    return command.rstrip("\n"), index


def commands(text: str) -> Iterator[str]:
    """Yield every galmorph command of a page's shell blocks on one line, without comments and pipes."""
    for language in ("", "console", "bash", "shell", "sh"):
        for _, body in blocks(text, language):
            joined = re.sub(r"[ \t]*\\\n\s*", " ", body)
            variables = dict(re.findall(r"^(?:export )?(\w+)=\"?([^\"\n]*)\"?\s*$", joined, flags=re.MULTILINE))
            for line in joined.splitlines():
                match = re.match(r"(?:\$ |again )?(galmorph .*)", line)
                if match:
                    unquoted = re.sub(r"'[^']*'", lambda found: "q" * len(found[0]), match[1])
                    end = re.search(r"\s#\s|\s[|&;>]+\s?|;$|$", unquoted)
                    command = match[1][: end.start()].strip()
                    for _ in range(2):  # a variable may hold another
                        for name, value in variables.items():
                            command = re.sub(rf"\${name}\b|\${{{name}}}", lambda _, v=value: v, command)
                    yield command


def differences(shown: str, printed: str, tolerance: float = 0.03) -> str:
    """Return how what was printed differs from what the page shows; '' where it agrees but for times and rounding.

    Numbers with a decimal point may differ by `tolerance`: processors round differently.
    """
    known, now = (
        [" ".join(_TIMES.sub(r"N \2", line).split()) for line in text.splitlines() if line.strip()]
        for text in (shown, printed)
    )
    for old, new in zip(known, now, strict=False):
        numbers = [[float(number) for number in _NUMBER.findall(line)] for line in (old, new)]
        same_text = _NUMBER.sub("#", old) == _NUMBER.sub("#", new)
        if not same_text or any(abs(a - b) > tolerance for a, b in zip(*numbers, strict=True)):
            return f"the page shows\n  {old}\nbut it prints\n  {new}"
    return "" if len(known) == len(now) else f"the page shows {len(known)} lines, but it prints\n{printed}"


class Session:
    """A folder in which commands run as a user would run them, with the stand-in for the network.

    Parameters
    ----------
    folder : Path
        Gets links to the folders of the checkout that the pages speak of.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = STAND_IN
        self._server: subprocess.Popen[str] | None = None
        for name in ("tests", "catalogs"):
            (folder / name).symlink_to(ROOT / name)
        programs = folder / ".bin"
        programs.mkdir()
        for name, arguments in (("galmorph", "-c 'from galmorph.cli.app import main; main()' "), ("python", "")):
            (programs / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' {arguments}\"$@\"\n")
            (programs / name).chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        self.env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            with self._server:  # closes its input, which ends it
                pass

    def run(self, command: str) -> str:
        """Run a command and return what it prints, stdout and stderr as they come."""
        if command.startswith("python tests/support/standin"):
            return self._serve(command)
        if command == "make demo":  # installs, then does this
            command = "test -d demo || galmorph demo --out demo"
        command = command.replace(STAND_IN, self.url)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{command}\nends with {done.returncode}:\n{done.stdout}")
        return _PROGRESS.sub("", done.stdout)

    def _serve(self, command: str) -> str:
        arguments = re.sub(r"--port \d+", "--port 0", command).split()[1:]
        self._server = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout is not None
        self.url = self._server.stdout.readline().strip()
        return STAND_IN + "\n"


def play(path: Path, run: Callable[[str], str]) -> Iterator[tuple[Step, str | None]]:
    """Yield each step of a page with what its command prints; None where it is not run here."""
    for step in steps(path.read_text()):
        absent = step.command.startswith("stilts") and not shutil.which("stilts")
        yield step, None if absent or step.command.startswith(NOT_RUN) else run(step.command)


def rewrite(path: Path, folder: Path) -> None:
    """Write what the commands of a page print now into the page, where it shows anything (a ``?``, say)."""
    text, moved = path.read_text(), 0
    with Session(folder) as session:
        for step, printed in play(path, session.run):
            if printed is not None and step.shown and differences(step.shown, printed):
                text = text[: step.start + moved] + printed + text[step.end + moved :]
                moved += len(printed) - len(step.shown)
    path.write_text(text)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        rewrite(Path(sys.argv[1]), Path(scratch))
