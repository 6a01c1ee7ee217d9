"""What people see: help in groups with examples, progress with rate and time left, completion, errors that go on."""

import io
import os
import re
import shlex
import subprocess
import sys
from functools import partial

import pytest
import typer
from made import cutout_folder, kaggle_folder, model_file
from rich.console import Console
from test_cli import invoke, run

from galmorph.classification.classify import classify
from galmorph.cli import app as cli
from galmorph.cli import console, terminal
from galmorph.cli import options as options_module
from galmorph.errors import GalmorphError, counted
from galmorph.registry import missing_file
from galmorph.training.train import train

COMMANDS = (
    "fetch",
    "classify",
    "train",
    "compare",
    "evaluate",
    "report",
    "select",
    "show",
    "doctor",
    "demo",
    "models list",
    "models show",
)


def command(name):
    """The click command of a name."""
    found = typer.main.get_command(cli.app)
    for part in name.split():
        found = found.commands[part]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_can_be_typed(name):
    found = command(name)
    examples = re.findall(r"^Example: galmorph (.*)$", found.help, flags=re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[: len(name.split())] == name.split()
        known = {option for parameter in found.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def leaves(group, path=()):
    """The names of all commands, those of groups too."""
    for name, found in group.commands.items():
        yield from leaves(found, (*path, name)) if hasattr(found, "commands") else [" ".join((*path, name))]


@pytest.mark.parametrize("name", [*leaves(typer.main.get_command(cli.app))])
def test_every_option_has_a_panel(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = {}
    for line in invoke(*name.split(), "--help").stdout.splitlines():
        if title := re.match(r"╭─ (.+?) ─", line):
            options = shown.setdefault(title[1], set())
        elif option := re.match(r"│ [* ]*(--[a-z0-9-]+)", line):
            options.add(option[1])
    shown.pop("Arguments", None)
    assert shown.pop("Options") == {"--help"}, "each option has a panel"
    declared = [parameter for parameter in command(name).params if parameter.param_type_name == "option"]
    assert set().union(*shown.values()) == {parameter.opts[0] for parameter in declared}
    for panel, options in shown.items():
        assert options == {parameter.opts[0] for parameter in declared if parameter.rich_help_panel == panel}
    panels = {
        found.keywords["rich_help_panel"] for found in vars(options_module).values() if isinstance(found, partial)
    }
    assert set(shown) <= panels


@pytest.mark.parametrize("name", [*leaves(typer.main.get_command(cli.app))])
def test_help_says_what_each_option_is_and_cuts_no_word_at_80_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in invoke(*name.split(), "--help").stdout
    assert [parameter.name for parameter in command(name).params if not parameter.help] == []


def test_a_table_cuts_nothing(monkeypatch):
    """Each letter of a long name is there, wherever its lines end."""
    name = "Ω" * 300
    narrow = console.SafeConsole(width=80, record=True, file=io.StringIO())
    table = console.table_of("name", "value", numbers=("value",))
    table.add_row(name, "1.25")
    narrow.print(table)
    monkeypatch.setattr(terminal, "stderr", narrow)
    terminal.show_metrics({"test": {name: {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75}}})
    shown = narrow.export_text()
    assert shown.count("Ω") == 600
    assert max(map(len, shown.splitlines())) <= 80


def test_a_misspelt_command_is_answered_with_the_right_one(tmp_path):
    assert run("classfy", cwd=tmp_path).stderr.endswith("Did you mean 'classify'? See galmorph --help.\n")


def test_no_colour_where_it_is_not_wanted(tmp_path):
    for variables, coloured in (({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
        env = {"TERM": "xterm-256color", "NO_COLOR": "", **variables}
        done = run("--help", env={name: value for name, value in env.items() if value}, cwd=tmp_path)
        assert bool(re.search(r"\x1b\[(\d+;)*3\d", done.stdout)) is coloured, variables


def test_completion():
    def galmorph(*arguments, **env):
        code = "import sys; sys.argv[0] = 'galmorph'; from galmorph.cli.app import main; main()"
        # The shell is the argument's, not the one that the test runs in.
        env = os.environ | {"OMP_NUM_THREADS": "1", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **env}
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False).stdout

    assert "_GALMORPH_COMPLETE=complete_bash" in galmorph("--show-completion", "bash")
    words = {"_GALMORPH_COMPLETE": "complete_bash", "COMP_WORDS": "galmorph cl", "COMP_CWORD": "1"}
    assert galmorph(**words).split() == ["classify"]
    words |= {"COMP_WORDS": "galmorph classify --ov", "COMP_CWORD": "2"}
    assert galmorph(**words).split() == ["--overwrite"]


def test_a_bar_tells_rate_and_time_left(monkeypatch):
    recorded = Console(force_terminal=True, width=110, file=open(os.devnull, "w"), record=True)  # noqa: SIM115, PTH123
    monkeypatch.setattr(terminal, "stderr", recorded)
    clock = iter(range(100))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock) / 2)
    with terminal.progress("classifying") as tell:
        for done in (20, 40, 60):
            tell(done, 100)
    text = recorded.export_text()
    assert "60/100" in text
    assert "40 a second" in text
    recorded.file.close()


def test_plain_lines_tell_rate_and_time_left(monkeypatch, capsys):
    clock = iter(range(100))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: 10 * next(clock))
    with terminal.progress("fetching") as tell:
        for done in (1000, 1015, 1200, 2000):  # the first thousand were there: the run goes on
            tell(done, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "fetching: 1000 of 2000",
        "fetching: 1200 of 2000, 20 a second, 40 s left",
        "fetching: 2000 of 2000",
    ]


def test_one_is_counted_as_one():
    assert [counted(n, "galaxy", "galaxies") for n in (0, 1, 2)] == ["0 galaxies", "1 galaxy", "2 galaxies"]
    assert [counted(n, "request") for n in (1, 2)] == ["1 request", "2 requests"]


def test_batches_that_end_together_are_no_rate(monkeypatch, capsys):
    """Two threads end their first batches at one moment, half a second after the model was there."""
    times = iter((100.0, 100.0001, 101.5, 103.0))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(times))
    with terminal.progress("classifying") as tell:
        for done in (100, 200, 400, 700):
            tell(done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "classifying: 100 of 1000",
        "classifying: 200 of 1000",
        "classifying: 400 of 1000, 200 a second, 3 s left",
        "classifying: 700 of 1000, 200 a second, 2 s left",
    ]


@pytest.mark.parametrize(
    "arguments", [["fetch"], ["show"], ["select", "-"], ["classify", "--images", "i.fits", "--catalog"]]
)
def test_a_folder_instead_of_a_table_is_answered_with_the_tables_in_it(arguments, tmp_path):
    cutout_folder(tmp_path / "c", n=1)
    (tmp_path / "c" / "targets.csv").write_text("id,ra,dec\na,1,2\n")
    words = [*arguments[:1], tmp_path / "c", "x > 1"] if arguments[0] == "select" else [*arguments, tmp_path / "c"]
    with pytest.raises(GalmorphError) as caught:
        invoke(*words)
    assert "is a folder, and a table is wanted here" in str(caught.value)
    named = f"Tables in it: {tmp_path / 'c' / 'targets.csv'}."
    assert str(caught.value).endswith(named), "a FITS cutout is none"


def test_a_missing_file_is_looked_for(tmp_path):
    (tmp_path / "targets.csv").touch()
    assert missing_file(tmp_path / "target.csv").endswith(f"Did you mean {tmp_path / 'targets.csv'}?")
    assert missing_file(tmp_path / "other.fits").endswith("other.fits.")
    assert "the folder" in missing_file(tmp_path / "none" / "t.csv")


def test_threads_are_at_least_one(tmp_path):
    cutout_folder(tmp_path / "c", n=1)
    with pytest.raises(GalmorphError, match="--workers 0: a whole number from 1 to 256"):
        classify(tmp_path / "c", model=model_file(tmp_path / "m.safetensors"), workers=0)


def test_a_folder_stays_free_where_nothing_was_trained(tmp_path, monkeypatch):
    from galmorph.training.config import configure

    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    data = kaggle_folder(tmp_path / "k", n=30)
    (tmp_path / "w.pth").write_bytes(b"no weights")
    for path, pretrained in (("nowhere", "none"), (str(data), str(tmp_path / "w.pth"))):
        options = {"input_size": 32, "pretrained": pretrained, "device": "cpu"}
        config = configure("default", [path], "galaxyzoo2", "mobilenet_v3_small", **options)
        with pytest.raises(GalmorphError):
            train(config, tmp_path / "run")
        assert not any((tmp_path / "run").glob("*"))
