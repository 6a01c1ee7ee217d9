"""The documents hold what the code does."""

import importlib
import importlib.util
import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import docrun
import pytest
import yaml
from typer.main import get_command

import galmorph
from galmorph import registry
from galmorph.cli import app as cli
from galmorph.environment import Variable
from galmorph.images.flags import Flag
from galmorph.models import card
from galmorph.retrieval import manifest

ROOT = Path(__file__).parents[2]


def made(name):
    """Import one of the scripts that make pages."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    for variable in ("FOOTPRINTS", "BRICKS_URL", "SDSS_SKYSERVER_URL", "SDSS_SAS_URL"):
        assert f"`{Variable[variable]}`" in text


def test_every_variable_is_in_the_docs():
    text = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for variable in Variable:
        assert re.search(rf"`{variable}(=1)?`", text), variable


PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGES = [page for page in PAGES if "_build" not in page.parts]
# Made where the documentation is built, of the cards in weights/.
MADE = {ROOT / "docs" / "cards.md"}


def prose(path):
    """Return a page (the text of a notebook) without what stands in code."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return re.sub(r"^(```+|~~~+).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """Return the anchors of a page's headings as GitHub and myst make them."""
    found: list[str] = []
    for title in re.findall(r"^#{1,6} (.+)$", prose(path), flags=re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


def links(path):
    """Return the targets of a page's links and pictures, without those in code."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(path)))


@pytest.mark.parametrize("path", [*PAGES, ROOT / "docs" / "notebook.ipynb"], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), link
            continue
        target, _, anchor = link.partition("#")
        other = (path.parent / target).resolve() if target else path
        assert other.exists() or other in MADE, link
        assert not anchor or anchor in anchors(other), f"{link}: {other.name} has {anchors(other)}"


def test_the_test_of_links_can_fail(tmp_path):
    (tmp_path / "a.md").write_text("# One\n\n## What `x` is, twice\n\n```\n# no\n```\n[l](b.md#no) `[c](d.md)`\n")
    assert anchors(tmp_path / "a.md") == ["one", "what-x-is-twice"]
    assert links(tmp_path / "a.md") == ["b.md#no"]
    with pytest.raises(AssertionError):
        test_links_lead_somewhere(tmp_path / "a.md")


def test_every_page_is_in_the_contents():
    docs = ROOT / "docs"
    listed = {docs / "index.md"}
    for page in docs.rglob("*.md"):
        for _, body in docrun.blocks(page.read_text(), "{toctree}"):
            for line in body.splitlines():
                name = re.sub(r".*<(.*)>", r"\1", line.strip())
                if name and not name.startswith(":"):
                    listed.update(page.parent.glob(f"{name}.*"))
    assert {page for page in docs.rglob("*.md") if "_build" not in page.parts} - MADE <= listed
    assert docs / "notebook.ipynb" in listed


def test_page_of_the_command_line_is_up_to_date():
    assert made("make_cli").page() == (ROOT / "docs" / "cli.md").read_text(), "run: python docs/make_cli.py"


def test_page_of_the_command_line_has_every_option():
    page = (ROOT / "docs" / "cli.md").read_text()
    for path, command in made("make_cli").commands(get_command(cli.app), "galmorph"):
        part = page.partition(f"\n## {path}\n")[2].partition("\n## ")[0]
        assert all(f"`{p.opts[0]}" in part for p in command.params if p.param_type_name == "option"), path
    assert "| `--rate X` | Requests a second at most. | `4.0` |" in page
    assert "| `--fine-tune`, `--freeze` |" in page


def test_page_of_the_cards_tells_what_they_say():
    page = made("make_cards").page()
    for name, path in card.shipped().items():
        found = card.read_card(path)
        assert f"\n## {name}\n" in page
        assert found.limits in page
        assert card.file_sha256(path)[:16] in page
        for sample, scores in found.metrics["test"].items():
            key = "rmse" if "rmse" in scores else "accuracy"
            assert f"| test | {sample} | {scores['n']} | {key} | {scores[key]:.4f} |" in page


def test_page_of_the_api_names_what_there_is():
    page = (ROOT / "docs" / "api.md").read_text()
    named = re.findall(r"^\.\. auto(?:function|class):: ([\w.]+)$", page, flags=re.MULTILINE)
    for path in named:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name).__doc__, path
    public = [f"galmorph.{module}.{name}" for name, module in galmorph._PUBLIC.items()]
    assert set(public) <= set(named)


def test_bounds_of_the_security_page_are_those_of_the_code():
    page = (ROOT / "docs" / "security.md").read_text()
    bounds = re.findall(r"^\| `(galmorph[\w.]+)\.(\w+)` \| ([\d,]+) \|", page, flags=re.MULTILINE)
    assert len(bounds) == page.count("| `galmorph.") > 20
    for module, name, value in bounds:
        assert getattr(importlib.import_module(module), name) == int(value.replace(",", "")), f"{module}.{name}"
    for name in (
        "MAX_BATCH",
        "MAX_WORKERS",
        "MAX_REQUESTS_IN_FLIGHT",
        "MAX_REQUESTS_PER_S",
        "MAX_ATTEMPTS",
        "MAX_TIMEOUT_S",
    ):
        assert ("galmorph.ranges", name) in [bound[:2] for bound in bounds]
    for file in re.findall(r"`(tests/[\w/]+\.py)`", page):
        assert (ROOT / file).is_file(), file


def no_callbacks(command):
    command.callback = lambda **options: None
    for other in getattr(command, "commands", {}).values():
        no_callbacks(other)
    return command


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_are_understood(path):
    for command in docrun.commands(path.read_text()):
        if "[" not in command:
            understood(command)


def understood(command):
    try:
        no_callbacks(get_command(cli.app)).main(shlex.split(command)[1:], standalone_mode=False)
    except Exception as error:
        raise AssertionError(f"{command}: {error!r}") from error


def test_the_test_of_commands_can_fail():
    page = '```\nx="--catalog t.csv"\ngalmorph fetch $x \\\n  --no-such 1   # told\nagain galmorph doctor | cat\n```\n'
    first, second = docrun.commands(page)
    assert (first, second) == ("galmorph fetch --catalog t.csv --no-such 1", "galmorph doctor")
    with pytest.raises(AssertionError, match="no-such"):
        understood(first)
    understood(second)


def test_what_a_page_shows_is_compared():
    (step, other) = docrun.steps("```console\n$ cat <<'EOF'\na\nEOF\nin 1.2 s p 0.50\n$ ls \\\n  -l\n```\n")
    assert (step.command, other.command) == ("cat <<'EOF'\na\nEOF", "ls \\\n  -l")
    assert docrun.differences(step.shown, "in 33.1 s  p 0.51\n") == ""
    assert "0.70" in docrun.differences(step.shown, "in 1.2 s p 0.70\n")
    assert "q" in docrun.differences(step.shown, "in 1.2 s q 0.50\n")
    assert "0 lines" in docrun.differences("", "more\n")


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["version"] == galmorph.__version__
    assert citation["license"] == "BSD-3-Clause"
    assert all({"name", "family-names"} & set(author) for author in citation["authors"])
    assert all({"type", "title", "authors"} <= set(reference) for reference in citation["references"])


def test_every_event_of_the_log_is_in_the_docs():
    text = (ROOT / "docs" / "scale.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "galmorph" / "cli").glob("*.py"))
    events = re.findall(r'emit\("(\w+)"', code)
    assert set(events) == {"message", "log", "error", "done", "progress", "traceback"}
    for event in events:
        assert f"| `{event}` |" in text


def test_makefile_has_the_two_commands_of_the_readme():
    makefile = (ROOT / "Makefile").read_text()
    assert "/galmorph demo --out demo\n" in makefile
    for command in ("demo", "test", "docs"):
        assert f"make {command}" in (ROOT / "README.md").read_text()
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)
    assert cli.DEFAULT_MODEL in (ROOT / "README.md").read_text()
