"""The documentation builds without a warning, and its pages ask nothing of the network."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("sphinx", "pydata_sphinx_theme", "myst_nb", "numpydoc", "sphinx_copybutton", "sphinx_design"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    # The notebook is run by a test of its own.
    options = ["-W", "--keep-going", "-q", "-D", "nb_execution_mode=off", "-d", str(out / ".trees")]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", str(out)],
        cwd=ROOT,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_links_of_the_site_lead_somewhere(site):
    texts = {path: path.read_text() for path in site.rglob("*.html") if "_static" not in path.parts}
    assert {path.name for path in texts} >= {"index.html", "tutorial.html", "cli.html", "api.html", "cards.html"}
    identifiers = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            target, _, anchor = unquote(link.partition("?")[0] if "#" not in link else link).partition("#")
            if re.match(r"https?:|mailto:|data:", link) or path.name == "search.html":
                continue
            other = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert other.exists(), f"{path.name}: {link}"
            assert not anchor or anchor in identifiers.get(other, {anchor}), f"{path.name}: {link}"


def test_pages_ask_nothing_of_the_network(site):
    for path in site.rglob("*.html"):
        asked = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(https?:[^"]*)"', path.read_text())
        asked += re.findall(r'<link[^>]*rel="(?:stylesheet|preload)"[^>]*href="(https?:[^"]*)"', path.read_text())
        assert asked == [], path.name


def test_public_functions_are_documented(site):
    page = (site / "api.html").read_text()
    for name in (
        "galmorph.retrieval.fetch.fetch",
        "galmorph.classification.classify.classify",
        "galmorph.schemas.LabelSchema",
    ):
        assert f'id="{name}"' in page
    assert "Parameters" in page
    assert "petroR90_r" in (site / "field.html").read_text()
