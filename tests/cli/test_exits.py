"""How a command ends where something is wrong: one line and the exit code that the documents promise."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import run

from galmorph import ranges
from galmorph.cli import console, exits
from galmorph.cli.console import visible
from galmorph.environment import Variable
from galmorph.errors import CannotContinue, GalmorphError, Interrupted
from galmorph.images.sizes import MAX_SIDE_PX

# A command that ends with an error of choice.
FAILING = (
    "import galmorph.cli.doctor as doctor\n"
    "def fail():\n"
    "    {statement}\n"
    "doctor.examine = fail\n"
    "from galmorph.cli.app import main; main()\n"
)


def failing(statement, *before, **env):
    """Run `galmorph doctor` with a fault in it."""
    command = [sys.executable, "-c", FAILING.format(statement=statement), *before, "doctor"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GALMORPH_")}
    environment |= {"OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_an_unexpected_error_ends_with_70_and_its_traceback_in_a_file(tmp_path):
    done = failing("raise KeyError('colour \\x1b[31m')", TMPDIR=str(tmp_path))
    assert done.returncode == exits.UNEXPECTED == 70
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    (log,) = tmp_path.glob("galmorph-error-*.log")
    assert done.stderr.startswith("error: galmorph failed unexpectedly (KeyError: ")
    assert f"please report it with the file {log}." in done.stderr
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert text.startswith("galmorph ")
    assert log.stat().st_mode & 0o077 == 0, "it may hold names of files: only the user reads it"


def test_the_log_holds_no_password(tmp_path):
    done = failing("raise KeyError(1)", "--log-json", "https://me:secret@host/x", TMPDIR=str(tmp_path))
    assert done.returncode == 2  # the address is no command
    code = "import sys; sys.argv = ['galmorph', 'https://me:secret@host']; from galmorph.cli import exits\n"
    code += "print(exits._details(ValueError()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "secret" not in done.stdout
    assert "host" in done.stdout


@pytest.mark.parametrize("how", ["option", "variable", "events"])
def test_the_traceback_is_printed_where_it_is_asked_for(tmp_path, how):
    before = {"option": ["--debug"], "variable": [], "events": ["--log-json", "--debug"]}[how]
    env = {str(Variable.DEBUG): "1"} if how == "variable" else {}
    done = failing("raise KeyError(1)", *before, TMPDIR=str(tmp_path), **env)
    assert done.returncode == 70
    assert "Traceback (most recent call last)" in done.stderr
    assert not [*tmp_path.iterdir()]
    if how == "events":
        assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["traceback", "error"]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("raise OSError(28, 'No space left on device')", 3),
        ("raise OSError(27, 'File too large')", 3),
        ("raise MemoryError", 3),
        ("raise OSError(12, 'Cannot allocate memory')", 3),
        ("raise RuntimeError('[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate')", 3),
        ("raise RuntimeError('CUDA out of memory. Tried to allocate 20.00 GiB')", 3),
        ("raise RuntimeError('could not create a primitive')", 3),
        ("from galmorph.errors import ModelError; raise ModelError('x') from OSError(12, 'Cannot allocate')", 3),
        ("raise KeyboardInterrupt", 130),
        ("raise RuntimeError('something else')", 70),
        ("from galmorph.errors import CatalogError; raise CatalogError('t.csv: no columns')", 2),
    ],
)
def test_faults_of_the_machine_are_not_faults_of_the_code(statement, code, tmp_path):
    done = failing(statement, TMPDIR=str(tmp_path))
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (code != 130)


@pytest.mark.parametrize(("name", "value"), [("MPLBACKEND", "nosuch"), ("SOURCE_DATE_EPOCH", "1.5")])
def test_a_wrong_variable_is_named(name, value, tmp_path):
    done = failing("import matplotlib", TMPDIR=str(tmp_path), **{name: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name} is '{value}'")
    assert len(done.stderr.splitlines()) == 1
    assert not [*tmp_path.glob("*.log")]


@pytest.mark.parametrize("device", ["meta", "cuda:99", "nosuch", ""])
def test_a_device_that_computes_nothing_is_refused(device):
    from galmorph.models.predictor import pick_device

    with pytest.raises(GalmorphError, match=f"The device '{device}' cannot be used"):
        pick_device(device)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_on_a_full_disk_is_no_traceback(stream):
    command = [sys.executable, "-c", FAILING.format(statement="return []"), "doctor", "--json"]
    command = command if stream == "stdout" else [*command[:-1], "--no-such"]
    with Path("/dev/full").open("w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        done = subprocess.run(command, check=False, **streams)
    assert done.returncode == 3 if stream == "stdout" else done.returncode in (2, 3)
    assert b"Traceback" not in (done.stderr or b"")
    assert b"Exception ignored" not in (done.stderr or b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_no_file_takes_their_place(closed, tmp_path):
    statement = "import os; assert os.open('opened', os.O_CREAT | os.O_WRONLY) > 2; return []"
    command = [sys.executable, "-c", FAILING.format(statement=statement), "doctor", "--json"]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command], check=False, cwd=tmp_path, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "opened").read_bytes() == b""


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_second_signal_ends_the_run_at_once_without_a_traceback(second):
    """As it would come while the first one is being answered: while a file is closed, or later, as Python ends."""
    kill = "__import__('os').kill(__import__('os').getpid(), {})"
    statement = f"try:\n        {kill.format(15)}\n    finally:\n        {kill.format(int(second))}; print('later')"
    done = failing(statement)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    late = f"__import__('atexit').register(lambda: {kill.format(int(second))}); raise MemoryError"
    done = failing(late)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, 2),
        (errno.ENOTDIR, 2),
        (errno.ENAMETOOLONG, 2),
        (errno.EROFS, 2),
        (errno.EIO, 3),
        (errno.ENOENT, 3),
    ],
)
def test_what_the_system_says_of_a_path_is_a_message(number, code, tmp_path):
    done = failing(f"raise OSError({number}, 'reason', '/a/path')", TMPDIR=str(tmp_path))
    assert done.returncode == code
    assert done.stderr.startswith("error: /a/path: reason.")
    assert not list(tmp_path.iterdir())


def test_every_exit_code_is_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert {GalmorphError.exit_code, CannotContinue.exit_code, Interrupted.exit_code, 0, 1, 70} == set(exits.CODES)
    for code, meaning in exits.CODES.items():
        assert f"| {code} | {meaning} |" in page
    assert errno.ENOSPC in exits._DISK_FULL


WRONG_OPTIONS = [
    ("classify", "--batch-size", ranges.MAX_BATCH + 1),
    ("classify", "--batch-size", 0),
    ("classify", "--batch-size", "many"),
    ("classify", "--workers", ranges.MAX_WORKERS + 1),
    ("classify", "--workers", -1),
    ("classify", "--tta", 9),
    ("classify", "--hdu", -1),
    ("fetch", "--workers", 0),
    ("fetch", "--rate", "nan"),
    ("fetch", "--rate", 0),
    ("fetch", "--rate", "inf"),
    ("fetch", "--timeout", -1),
    ("fetch", "--retries", 0),
    ("fetch", "--size", MAX_SIDE_PX + 1),
    ("fetch", "--pixscale", "nan"),
    ("fetch", "--size-factor", -2),
    ("fetch", "--limit", 0),
    ("evaluate", "--batch-size", 0),
    ("train", "--epochs", 0),
    ("train", "--lr", "nan"),
    ("train", "--input-size", 10**6),
    ("train", "--seed", -1),
    ("compare", "--seeds", 0),
]


@pytest.fixture(scope="module")
def many_wrong():
    """How each of the wrong options ends; all in one process, since each start costs a second."""
    code = (
        "import io, json, sys\n"
        "from contextlib import redirect_stderr\n"
        "from galmorph.cli import console\n"
        "from galmorph.cli.app import main\n"
        "for arguments in json.loads(sys.argv.pop()):\n"
        "    sys.argv, file = ['galmorph', *arguments], io.StringIO()\n"
        "    console.stderr.file = file\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print(json.dumps([end.code, file.getvalue()]))\n"
    )
    needed = {"fetch": ["--catalog", "t.csv"], "evaluate": ["m", "--data", "d"], "train": ["--data", "d", "--out", "o"]}
    needed |= {"classify": ["t.csv"], "compare": ["--data", "d", "--schema", "rings", "--out", "o"]}
    wanted = [[command, *needed[command], option, str(value)] for command, option, value in WRONG_OPTIONS]
    done = subprocess.run([sys.executable, "-c", code, json.dumps(wanted)], capture_output=True, text=True, check=True)
    return dict(zip(WRONG_OPTIONS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=lambda wrong: " ".join(map(str, wrong)))
def test_a_number_out_of_its_range_is_one_line(wrong, many_wrong):
    code, said = many_wrong[wrong]
    assert code == 2
    assert said.startswith(f"error: Invalid value for '{wrong[1]}'")
    assert len(said.splitlines()) == 1


GARBAGE = {
    "COLUMNS": ["0", "-5", "²", "many", "1"],
    "LINES": ["²", "many"],
    "TERMINAL_WIDTH": ["wide", "0"],
    "TERM": ["", "nosuch", "dumb"],
    "LANG": ["xx_XX.UTF-9"],
    "LC_ALL": ["POSIX", "tlh"],
    "PYTHONIOENCODING": ["ascii"],
    "TMPDIR": ["/nonexistent/folder"],
    "HOME": ["", "/nonexistent"],
    "XDG_CONFIG_HOME": ["/nonexistent"],
    "MPLBACKEND": ["nosuch"],
    "NO_COLOR": ["maybe"],
    "FORCE_COLOR": ["maybe"],
    "OMP_NUM_THREADS": ["many"],
    **{str(variable): ["\x01garbage/$(x)"] for variable in Variable},
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GARBAGE.items() for value in values])
def test_a_strange_environment_is_no_traceback(name, value, tmp_path):
    env = {"COLUMNS": "80", "PYTHONWARNINGS": "", name: value}
    done = run("models", "list", env=env, cwd=tmp_path)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1
    assert (done.returncode == 2) is (name == str(Variable.LOG_JSON))


def test_without_a_home_folder_the_variable_is_named(tmp_path, monkeypatch):
    from galmorph import environment

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GALMORPH_CACHE", raising=False)
    monkeypatch.setattr(environment.Path, "home", no_home)
    with pytest.raises(GalmorphError, match="set GALMORPH_CACHE"):
        environment.cache_folder()


def test_control_characters_become_visible():
    assert visible("a\x1b]0;title\x07b\x9b31m\u202ec\td\ne") == "a\u241b]0;title\u2407b\ufffd31m\ufffdc\td\ne"


EVIL = "\x1b[31mred\x1b]0;title\x07[bold]:bomb:"


def test_nothing_that_a_file_holds_reaches_the_terminal_raw(tmp_path, monkeypatch):
    """Messages, tables, errors and log lines that hold escape sequences and rich's markup show them."""
    import logging

    from rich.table import Table

    record = logging.LogRecord("galmorph", logging.WARNING, "", 1, "%s", (EVIL,), None)
    for force in (True, False):
        shown = console.SafeConsole(width=80, force_terminal=force, file=(tmp_path / f"{force}").open("w+"))
        monkeypatch.setattr(console, "stderr", shown)
        monkeypatch.setattr(exits, "stderr", shown)
        console.say(EVIL)
        exits.show_error(EVIL, 2)
        table = Table(EVIL)
        table.add_row(EVIL)
        shown.print(table)
        shown.print(EVIL)
        console.RichHandler(console=shown, show_time=False, show_path=False).emit(record)
        shown.file.close()
        text = (tmp_path / f"{force}").read_text()
        left = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colours that rich set itself
        assert "\x1b" not in left
        assert "\x07" not in text
        assert "\x1b[31mred" not in text
        assert left.count("[bold]:") == 6
    assert "\x1b" not in console._PlainFormatter("%(message)s").format(record)
