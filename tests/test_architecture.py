"""The layout states the architecture. That imports point down, and no package has a circle, import-linter checks."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "galmorph"


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


@pytest.mark.parametrize(
    "module",
    [
        "galmorph",
        "galmorph.files.fits",
        "galmorph.files.journal",
        "galmorph.schemas",
        "galmorph.tables.catalog",
        "galmorph.images.cutout",
        "galmorph.images.survey_image",
        "galmorph.models.card",
        "galmorph.retrieval.fetch",
        "galmorph.classification.sources",
        "galmorph.reports.catalog",
        "galmorph.cli.app",
        "galmorph.cli.doctor",
    ],
)
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_modules_are_short():
    assert {p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 500} == {}
