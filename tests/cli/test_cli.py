"""The command line: exit codes, streams, JSON, help."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.table import Table
from made import cutout_folder, galaxy10_file, model_file
from typer.testing import CliRunner

import galmorph
from galmorph.cli import app as cli
from galmorph.models import card

README = (Path(__file__).parents[2] / "README.md").read_text()


def run(*arguments, **options):
    """Run the command in a process of its own, as a user does."""
    command = [sys.executable, "-c", "from galmorph.cli.app import main; main()", *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, **options)


def invoke(*arguments):
    """Run the command in this process; quicker, but without the turning of errors into exit codes."""
    return CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def survey(tmp_path):
    cutout_folder(tmp_path, n=3)
    (tmp_path / "t.csv").write_text("id,cutout\n1,g0.fits\n2,none.fits\n3,g2.fits\n")
    model_file(tmp_path / "m.safetensors")
    return tmp_path


def test_results_on_stdout_messages_on_stderr(survey):
    done = run("classify", "t.csv", "--model", "m.safetensors", "--json", "--profile", cwd=survey)
    assert done.returncode == 0
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result) == {
        *("targets", "classified", "flagged", "failed", "off_centre", "seconds", "rate", "model", "sha256", "out"),
    }
    assert (result["targets"], result["classified"], result["failed"]) == (3, 2, 1)
    assert len(done.stdout.splitlines()) == 1
    assert "none.fits: there is no such file" in done.stderr
    assert "2 of 3 galaxies classified by m" in done.stderr
    assert re.search(r"Seconds: model \d.*read \d.*network \d.*write \d.*by the clock", done.stderr)
    assert re.search(r"Memory: \d+ MB at most", done.stderr)
    assert "\x1b" not in done.stderr, "no colours or bars where there is no terminal"


def test_strict_tells_of_failures(survey):
    result = invoke("classify", survey / "t.csv", "--model", survey / "m.safetensors", "--strict")
    assert result.exit_code == 1
    assert (survey / "t_morph.csv").exists()


def test_wrong_usage_exits_with_2_and_one_line(survey):
    done = run("classify", "t.csv", "--model", "galaxyzoo2-mobilnet", cwd=survey)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: There is no model 'galaxyzoo2-mobilnet'")
    assert "Traceback" not in done.stderr
    assert run("classify", "t.csv", "--modell", "x", cwd=survey).returncode == 2


def test_a_mistyped_name_is_answered_before_torch_is_imported(survey):
    code = "import sys; sys.argv[0] = 'galmorph'\nfrom galmorph.cli.app import main\ntry:\n    main()\n"
    code += "finally:\n    import resource\n"
    code += "    print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 'torch' in sys.modules)"
    for arguments in (
        ("classify", "nofile.csv"),
        ("classify", "t.csv", "--model", "none.safetensors"),
        ("classify", "--images", "x-{band}.fits", "--catalog", "nofile.csv"),
        ("fetch", "--catalog", "nofile.csv"),
        ("report", "nofile.csv"),
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=survey, check=False)
        seconds, imported = done.stdout.split()
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: There is no ")
        assert (imported, float(seconds) < 1) == ("False", True), arguments


def test_commands_in_errors_work_as_they_are_printed(survey):
    """A path in a suggested command is whole and quoted, so that it works where the user is."""
    import shlex

    folder = survey / "my targets"
    folder.mkdir()
    (folder / "t.csv").write_text("id,ra,dec\na,10,1\n")
    (folder / "cutouts").mkdir()
    scored = survey / "no scores"
    scored.mkdir()
    for arguments, suggested, path in (
        (("classify", "my targets/t.csv", "--model", "m.safetensors"), "fetch", "my targets/t.csv"),
        (("report", "my targets/t.csv"), "classify", "my targets/t.csv"),
        (("classify", "my targets/cutouts", "--model", "m.safetensors"), "fetch", "my targets/cutouts"),
        (("report", "no scores"), "evaluate", "no scores"),
    ):
        done = run(*arguments, cwd=survey)
        assert done.returncode == 2
        command = done.stderr[done.stderr.index(f"galmorph {suggested}") :]
        assert path in shlex.split(re.sub(r"[,:] .*", "", command.strip(), count=1).replace(" gets them.", ""))


def test_everything_is_an_event_where_it_is_asked_for(survey):
    done = run("--log-json", "classify", "t.csv", "--model", "m.safetensors", "--json", cwd=survey)
    assert json.loads(done.stdout)["targets"] == 3, "stdout is as ever"
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in events)
    assert {event["event"] for event in events} == {"log", "progress", "message", "done"}
    log = next(event for event in events if event["event"] == "log")
    assert (log["level"], log["logger"]) == ("warning", "galmorph.classification.batches")
    assert "none.fits" in log["message"]
    assert [e["done"] for e in events if e["event"] == "progress"] == [3]
    assert events[-1]["flags"] == {"unreadable": 1}
    again = run("classify", "t.csv", "--model", "m.safetensors", cwd=survey, env={"GALMORPH_LOG_JSON": "1"})
    assert again.returncode == 2
    error = json.loads(again.stderr)
    assert (error["event"], error["level"], error["exit_code"]) == ("error", "error", 2)
    assert "--overwrite" in error["message"]


def test_sigterm_exits_with_130_and_can_be_resumed(survey):
    code = (
        "import galmorph.classification.batches as c, os, signal, time\n"
        "predict, calls = c.predict_batch, []\n"
        "def slow(*a):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 1:  # the first batch is written, or will be soon\n"
        "        for _ in range(1000):\n"
        "            if os.path.getsize('.t_morph.csv.galmorph/rows.bin'):\n"
        "                break\n"
        "            time.sleep(0.01)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.5)\n"
        "    return predict(*a)\n"
        "c.predict_batch = slow\n"
        "from galmorph.cli.app import main; main()\n"
    )
    arguments = [
        "classify",
        "t.csv",
        "--model",
        "m.safetensors",
        "--batch-size",
        "1",
        "--workers",
        "1",
        "--device",
        "cpu",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *arguments]
    stopped = subprocess.run(command, cwd=survey, capture_output=True, text=True, env=env, check=False)
    assert stopped.returncode == 130, stopped.stderr
    assert "Stopped after 2 of 3 targets" in stopped.stderr, "the batch that had begun was finished"
    assert "go on with the same command" in stopped.stderr
    assert not (survey / "t_morph.csv").exists()
    done = run(*arguments, "--resume", cwd=survey)
    assert done.returncode == 0
    assert len((survey / "t_morph.csv").read_text().splitlines()) == 4
    assert signal.SIGTERM == 15


def test_train_evaluate_classify(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    data = galaxy10_file(tmp_path / "g.h5")
    options = ["--schema", "galaxy10_sdss", "--backbone", "mobilenet_v1", "--pretrained", "none", "--input-size", 32]
    out = tmp_path / "run"
    done = invoke("train", "--data", data, *options, "--epochs", 1, "--out", out, "--device", "cpu", "--json")
    shown = done.stderr
    assert re.search(r"^ *test +g +n +\d", shown, flags=re.MULTILINE)
    assert "val" not in re.findall(r"^ *(\w+) +g ", shown, flags=re.MULTILINE), (
        "one part is enough; metrics.json has all"
    )
    assert "all scores (metrics.json)" in shown
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"val", "test", "val_tta8", "test_tta8"}
    done = invoke("evaluate", out, "--data", data, "--json", "--dtype", "float32")
    scores = json.loads(done.stdout.splitlines()[-1])
    assert scores["part"] == "test"
    assert scores["n_overlap"] == 0
    assert {"accuracy", "accuracy_low", "f1_high", "nll", "brier", "ece"} <= set(scores)
    metrics = json.loads((out / "metrics.json").read_text())
    assert scores["accuracy"] == metrics["test"]["g"]["accuracy"]
    everything = json.loads(invoke("evaluate", out, "--data", data, "--part", "all", "--json").stdout.splitlines()[-1])
    assert everything["n_overlap"] == 90 - scores["n"]
    cutout_folder(tmp_path / "c", n=2)
    assert invoke("classify", tmp_path / "c", "--model", out).exit_code == 0
    assert len(Table.read(tmp_path / "c_morph.fits")) == 2


def test_models_list_and_show(tmp_path):
    listed = json.loads(invoke("models", "list", "--json").stdout.splitlines()[-1])["models"]
    entry = next(entry for entry in listed if entry["name"] == cli.DEFAULT_MODEL)
    assert set(entry) == {"name", "schema", "backbone", "file", "sha256", "bytes", "scores"}
    assert entry["bytes"] < 6e6
    shown = json.loads(invoke("models", "show", cli.DEFAULT_MODEL, "--json").stdout.splitlines()[-1])
    assert shown["labels"][0] == {
        "name": "smooth_or_featured_smooth",
        "column": "p_smooth_or_featured_smooth",
        "code": "Class1.1",
    }
    assert len(shown["labels"]) == 37
    assert shown["labels"][-1]["code"] == "Class11.6"


def test_models_are_whole_at_80_columns_and_one_is_a_screen():
    listed = run("models", "list", env={"COLUMNS": "80"}).stdout
    for name in card.shipped():
        samples = {score.rpartition(" ")[0] for score in card.describe(card.shipped()[name])["scores"]}
        assert samples <= set(listed.split()), "the name of a sample is never cut either"
        assert re.search(rf"^ *{name} ", listed, flags=re.MULTILINE), "a name is never cut"
        shown = run("models", "show", name, env={"COLUMNS": "80"}).stdout.splitlines()
        assert len(shown) <= 24
        assert max(map(len, [*shown, *listed.splitlines()])) <= 80
        assert shown[0].split() == ["name", name]
        assert shown[-1].split(maxsplit=3)[3].split() == ["galmorph", "models", "show", name, "--json"]


def test_version_and_help():
    assert invoke("--version").stdout.strip() == galmorph.__version__
    for command in ("classify", "train", "evaluate", "demo", "models"):
        assert command in invoke("--help").stdout
        assert invoke(command, "--help").exit_code == 0


def test_bare_quiet_run_says_nothing(survey):
    done = run("--quiet", "classify", "t.csv", "--model", "m.safetensors", cwd=survey)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_commands_of_the_readme_exist():
    commands = re.findall(r"^galmorph (\w+)((?: .*?)?)(?:#.*)?$", README, flags=re.MULTILINE)
    assert {name for name, _ in commands} >= {"classify", "train", "evaluate"}
    for name, arguments in commands:
        help_text = invoke(name, "--help").stdout
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in help_text, f"galmorph {name} {option}"


def test_shipped_models_are_sound():
    for name, path in card.shipped().items():
        found = card.read_card(path)
        assert found.name == name
        assert path.stat().st_size < 6e6
        assert found.metrics["test"]
        assert found.split["method"]
        assert found.intended_use
        assert found.limits
