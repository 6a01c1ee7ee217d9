"""A galaxy as the model sees it with its probabilities: PNG, terminal of 80 columns, notebook; and results there."""

import base64
import io
import json
import re

import numpy as np
import pytest
from astropy.table import Table
from made import blob, cutout_folder, model_file
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import galmorph
from galmorph.classification.prepare import colour_picture, prepare
from galmorph.cli.app import app
from galmorph.cli.drawing import in_terminal
from galmorph.errors import GalmorphError
from galmorph.models.model import load

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three cutouts, a catalog of them with one that is absent, and its result."""
    folder = tmp_path_factory.mktemp("show")
    cutout_folder(folder / "cut", n=3)
    model_file(folder / "m.safetensors")
    (folder / "t.csv").write_text("id,cutout\na,cut/g0.fits\n2,cut/g1.fits\n<b>,cut/g2.fits\nd,none.fits\n")
    outcome = galmorph.classify(folder / "t.csv", model=folder / "m.safetensors", out=folder / "r.csv", **FAST)
    return folder, outcome


def shown(made, *arguments, **options):
    return galmorph.show(*arguments, model=made[0] / "m.safetensors", **options)


def test_a_row_of_a_result_is_what_the_model_saw(made):
    folder = made[0]
    by_name, by_number = shown(made, folder / "r.csv", "<b>"), shown(made, folder / "r.csv", 2)
    assert by_name.id == by_number.id == "<b>"
    np.testing.assert_array_equal(by_name.p, by_number.p)
    prepared = prepare(folder / "cut" / "g2.fits", load(folder / "m.safetensors").card, np.nan)
    np.testing.assert_array_equal(by_name.picture, (colour_picture(prepared) * 255).round().astype(np.uint8))
    table = Table.read(folder / "r.csv")
    assert by_name.p[0] == pytest.approx(table["p_smooth_or_featured_smooth"][2])
    assert by_name.label == table["morph_label"][2]
    assert shown(made, folder / "r.csv", "2").id == "2", "an identifier comes before a row's number"


def test_a_cutout_is_classified(made):
    folder = made[0]
    one, row = shown(made, folder / "cut" / "g1.fits"), shown(made, folder / "r.csv", "2")
    np.testing.assert_allclose(one.p, row.p, atol=0.03)  # bfloat16 where the processor has it
    np.testing.assert_array_equal(one.picture, row.picture)
    assert one.id == "g1"


def test_a_model_of_the_users_own_is_found_by_the_record(made):
    """The record beside the result says where the model is, so that nobody has to name it again."""
    folder = made[0]
    report = galmorph.report(folder / "r.csv", folder / "own.html")
    assert (report.pictures, report.notes) == (3, ())
    one, named = galmorph.show(folder / "r.csv", "a"), shown(made, folder / "r.csv", "a")
    np.testing.assert_array_equal(one.picture, named.picture)
    record = json.loads((folder / "r.csv.prov.json").read_text())
    assert record["entity"]["run:model"]["voprov:location"] == "m.safetensors"


def test_a_cutout_is_read_once(made, monkeypatch):
    from galmorph.classification import prepare

    opened, read = [], prepare.read_cutout
    monkeypatch.setattr(prepare, "read_cutout", lambda path, *a, **k: opened.append(path) or read(path, *a, **k))
    shown(made, made[0] / "cut" / "g1.fits")
    assert len(opened) == 1


def test_a_galaxy_has_one_line(made):
    assert re.fullmatch(
        r"<Galaxy g1: .*: smooth_or_featured \w+ 0\.\d\d.*>", repr(shown(made, made[0] / "cut" / "g1.fits"))
    )


def test_a_picture_is_shown_in_its_frame(made, tmp_path):
    Image.fromarray(blob(0, np.random.default_rng(0))).save(tmp_path / "p.png")
    assert "picture" in shown(made, tmp_path / "p.png", width_r90=8.48).flags
    whole, framed = shown(made, tmp_path / "p.png"), shown(made, tmp_path / "p.png", width_r90=8.48)
    assert np.abs(whole.picture.astype(int) - framed.picture).mean() > 2


@pytest.mark.parametrize("kind", ["table", "pandas"])
def test_a_result_in_memory_is_shown(made, kind, monkeypatch):
    folder = made[0]
    table = Table({"id": ["a", "b"], "cutout": ["cut/g0.fits", "cut/g1.fits"]})
    given = table if kind == "table" else table.to_pandas()
    result = galmorph.classify(given, model=folder / "m.safetensors", cutouts=folder, **FAST)
    galaxy = shown(made, result, "b", cutouts=folder)
    np.testing.assert_allclose(galaxy.p, shown(made, folder / "r.csv", "2").p, atol=1e-6)
    monkeypatch.chdir(folder)
    assert shown(made, result, 1).picture is not None


def test_the_answers_are_those_of_questions_that_are_asked(made):
    galaxy = shown(made, made[0] / "r.csv", 0)
    first = [answer for answer in galaxy.answers if answer.question == "smooth_or_featured"]
    assert sum(answer.share for answer in first) == pytest.approx(1)
    assert [answer.share for answer in first] == sorted((answer.share for answer in first), reverse=True)
    reached = galaxy.schema.reached(galaxy.p[None])[0]
    asked = {q.name for q, value in zip(galaxy.schema.questions, reached, strict=True) if value >= 0.5}
    assert {answer.question for answer in galaxy.answers} == asked


def printed(galaxy, *, colours):
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=colours, color_system="truecolor" if colours else None)
    console.print(in_terminal(galaxy, colours=colours))
    return file.getvalue()


@pytest.mark.parametrize("colours", [True, False])
def test_the_terminal_needs_80_columns_and_cuts_nothing(made, colours):
    galaxy = shown(made, made[0] / "r.csv", 1)
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(galaxy, colours=colours))
    assert max(map(len, text.splitlines())) <= 80
    for answer in galaxy.answers:
        assert answer.name.replace("_", " ") in text
        assert f"{answer.share:4.2f}" in text
    full = printed(galaxy, colours=colours)
    assert ("\x1b[38;2;" in full) == colours
    assert ("@" in full or "#" in full) != colours
    assert "…" not in full


def test_png_and_html(made, tmp_path):
    galaxy = shown(made, made[0] / "r.csv", "<b>", out=tmp_path / "g.png")
    picture = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"))
    assert picture.shape[1] > 600
    assert len(np.unique(picture[:, : picture.shape[1] // 2].reshape(-1, 3), axis=0)) > 500, "the galaxy is drawn"
    html = galaxy._repr_html_()
    assert "&lt;b&gt;: " in html
    assert "<b>" not in html
    content = base64.b64decode(re.search(r"base64,([^']+)'", html)[1])
    assert np.asarray(Image.open(io.BytesIO(content))).shape == galaxy.picture.shape


def test_a_galaxy_without_probability_says_why(made):
    galaxy = shown(made, made[0] / "r.csv", 3)
    assert galaxy.picture is None
    assert galaxy.answers == []
    assert "no such file" in galaxy.reason
    assert "no probability" in printed(galaxy, colours=False)
    assert galaxy.png()
    assert "no probability" in galaxy._repr_html_()


@pytest.mark.parametrize(
    ("what", "row", "options", "words"),
    [
        ("r.csv", None, {}, "Say which galaxy"),
        ("r.csv", "nobody", {}, "has no galaxy 'nobody'"),
        ("r.csv", 4, {}, "it has 4 rows"),
        ("t.csv", 0, {}, "galmorph classify"),
        ("cut/g0.fits", 1, {}, "has no rows"),
        ("r.csv", 0, {"out": "g.jpg"}, r"name it \*\.png"),
    ],
)
def test_what_cannot_be_shown_has_a_message(made, what, row, options, words):
    with pytest.raises(GalmorphError, match=words):
        shown(made, made[0] / what, row, **options)
    with pytest.raises(GalmorphError, match="not a dict"):
        shown(made, {})


def test_the_command(made, tmp_path):
    model = ["--model", str(made[0] / "m.safetensors")]
    result = CliRunner().invoke(app, ["show", str(made[0] / "r.csv"), "a", *model])
    assert result.exit_code == 0, result.output
    assert "smooth or featured" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    out = tmp_path / "g.png"
    result = CliRunner().invoke(app, ["show", str(made[0] / "cut" / "g0.fits"), *model, "--out", str(out), "--json"])
    assert out.stat().st_size > 5000
    assert len(json.loads(result.stdout.splitlines()[-1])["probabilities"]) == 37


def test_a_window_opens(made, monkeypatch):
    from matplotlib import pyplot

    opened = []
    monkeypatch.setattr(pyplot, "show", lambda: opened.append(pyplot.gcf()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        pyplot.switch_backend("agg")
        model = ["--model", str(made[0] / "m.safetensors")]
        result = CliRunner().invoke(app, ["show", str(made[0] / "r.csv"), "a", "--window", *model])
    assert result.exit_code == 0, result.output
    assert [len(axes.images) for axes in opened[0].axes] == [1, 0]
    pyplot.close("all")


def test_a_result_shows_itself_in_a_notebook(made):
    html = made[1]._repr_html_()
    assert "3 of 4" in html
    assert html.count("data:image/jpeg;base64,") == 3
    assert "&lt;b&gt;" in html
    table = Table.read(made[0] / "r.csv")
    assert str(table["morph_label"][0]) in html
    fewer = galmorph.classify(
        made[0] / "t.csv", model=made[0] / "m.safetensors", out=made[0] / "few.csv", columns=("p_bar_yes",), **FAST
    )
    assert "data:image" not in fewer._repr_html_()
