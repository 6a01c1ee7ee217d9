"""The documents hold what the code does."""

import re
from pathlib import Path

import pytest

from galmorph import cli
from galmorph.cutout import Flag

ROOT = Path(__file__).parents[1]


def test_every_flag_is_in_the_docs():
    text = (ROOT / "docs" / "classify.md").read_text()
    for flag in Flag:
        assert f"| {flag.value} | {flag.name.lower()} |" in text


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
