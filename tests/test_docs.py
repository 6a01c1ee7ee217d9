"""The documents hold what the code does."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from galmorph import cli, footprint, manifest, registry
from galmorph.cutout import Flag
from galmorph.surveys import _bricks, sdss

ROOT = Path(__file__).parents[1]


def test_every_flag_is_in_the_docs():
    text = (ROOT / "docs" / "classify.md").read_text()
    for flag in Flag:
        assert f"| {flag.value} | {flag.name.lower()} |" in text


def test_all_of_fetch_is_in_the_docs():
    text = (ROOT / "docs" / "fetch.md").read_text()
    for state in set(manifest.STATES) - {manifest.PENDING}:
        assert f"| `{state}` |" in text
    for name in registry.names("surveys"):
        assert f"| `{name}` |" in text
    known = set(get_command(cli.app).commands["fetch"].params)
    options = {option for parameter in known for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= options
    for variable in (footprint.FOLDER_VARIABLE, _bricks.URL_VARIABLE, sdss.SKYSERVER_VARIABLE, sdss.SAS_VARIABLE):
        assert f"`{variable}`" in text


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_and_pictures_exist(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_makefile_has_the_two_commands_of_the_readme():
    makefile = (ROOT / "Makefile").read_text()
    for command in ("demo", "test"):
        assert f"make {command}" in (ROOT / "README.md").read_text()
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert cli.DEFAULT_MODEL in (ROOT / "README.md").read_text()
