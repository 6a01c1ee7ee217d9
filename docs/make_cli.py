"""Write the page of the command line from the texts of ``--help``: ``python docs/make_cli.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from typer.main import get_command

from galmorph.cli import app as cli
from galmorph.cli import exits

PAGE = Path(__file__).with_name("cli.md")

_INTRODUCTION = """\
# The command line

<!-- Written by docs/make_cli.py from the texts of --help: change those, and run it again. -->

The help of every command (`galmorph COMMAND --help`). Messages and progress go to stderr, results to stdout; `--json`
prints one JSON object as the last line of stdout.

| exit code | meaning |
|---|---|
{codes}

With code 70 the message names a file that holds the traceback. `--debug` before the command, or `GALMORPH_DEBUG=1`,
prints the traceback instead.
"""


def page() -> str:
    """Return the page as Markdown."""
    root = get_command(cli.app)
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in sorted(exits.CODES.items()))
    parts = [
        _INTRODUCTION.format(codes=codes),
        "## galmorph\n",
        "Options before the name of a command:\n",
        "\n".join(_table(root)) + "\n",
    ]
    for path, command in commands(root, "galmorph"):
        parts.append(f"## {path}\n")
        help_text = inspect.cleandoc(command.help or "")
        text, *examples = help_text.split("Example: ")
        parts.append(text.strip() + "\n")
        shown = [f"{path} {' '.join(usage(command))}".strip(), *(" ".join(example.split()) for example in examples)]
        parts.append("```\n" + "\n".join(shown) + "\n```\n")
        parts.append("\n".join(_table(command)) + "\n")
    return "\n".join(parts)


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the object of each command, those of a group in the order of its help."""
    for name, entry in command.commands.items():
        if hasattr(entry, "commands"):
            yield from commands(entry, f"{path} {name}")
        else:
            yield f"{path} {name}", entry


def usage(command: Any) -> list[str]:
    """Return the arguments and the options that must be given."""
    arguments = [p for p in command.params if not _is_option(p)]
    words = [_name(p) if p.required else f"[{_name(p)}]" for p in arguments]
    words += [f"{p.opts[0]} {_value(command, p)}" for p in command.params if _is_option(p) and p.required]
    return [*words, "[OPTIONS]"]


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _value(command: Any, parameter: Any) -> str:
    # From the function: what a parameter says of its type differs between versions of typer.
    kind = str(get_type_hints(inspect.unwrap(command.callback)).get(parameter.name))
    return next((word for part, word in (("Path", "PATH"), ("int", "N"), ("float", "X")) if part in kind), "TEXT")


def _table(command: Any) -> Iterator[str]:
    yield "| option | what | default |"
    yield "|---|---|---|"
    for parameter in command.params:
        if not _is_option(parameter):
            shown = f"`{_name(parameter)}`"
        elif parameter.is_flag:
            shown = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        else:
            shown = f"`{parameter.opts[0]} {_value(command, parameter)}`"
        text = (parameter.help or "").replace("|", "\\|").replace("<", "&lt;").replace("{", "\\{")
        yield f"| {shown} | {text}{' May be repeated.' if _repeats(parameter) else ''} | {_default(parameter)} |"


def _repeats(parameter: Any) -> bool:
    return bool(getattr(parameter, "multiple", False)) and "repeat" not in (parameter.help or "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False) and not parameter.secondary_opts:
        return ""
    value = parameter.default
    if isinstance(value, bool) and parameter.secondary_opts:
        return f"`{parameter.opts[0] if value else parameter.secondary_opts[0]}`"
    return f"`{value}`" if isinstance(value, str | int | float | Path) and value != "" else ""


if __name__ == "__main__":
    PAGE.write_text(page())
