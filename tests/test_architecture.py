"""The layout states the architecture: imports point one way, and light modules do not import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "galmorph"

# A module may import those of earlier lines only; a folder counts as one.
LAYERS = [
    {"errors"},
    {"registry", "labels", "normalize", "unlikeness", "lock", "client", "order", "imagefile", "fitsbytes"}
    | {"terminal", "clock", "signals", "ahead", "allocator", "options"},
    {"conformal", "spread", "journal", "tables", "headers", "footprint", "manifest", "checks", "mosaic"},
    {"positions", "pictures", "astrometry"},
    {"columns", "cutout"},
    {"catalog", "radius", "planes"},
    {"hats", "quality", "detection", "surveys", "backbones", "schemas"},
    {"card", "source", "framing", "storage", "stamps"},
    {"run", "memory", "morphology", "samples", "provenance"},
    {"dataset", "model", "retrieval", "field"},
    {"conditions"},
    {"inference", "checkpoint", "figures"},
    {"processes"},
    {"evaluation", "distillation", "recipes", "page", "results"},
    {"calibration", "optimisation", "ensemble"},
    {"training", "classification", "assessment"},
    {"comparison", "composites", "regions", "scale"},
    {"report"},
    {"demo", "doctor"},
    {"models_cli"},
    {"cli"},
]


def layer_of(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if module in layer)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def imported(path: Path) -> set[str]:
    """Return the galmorph modules (first part of the name) that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "galmorph":
            parts = node.module.split(".")[1:]
            found.update(parts[:1] or {alias.name for alias in node.names})
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(path) - {module}:
        assert layer_of(other) < layer_of(module), f"{module} imports {other}"


@pytest.mark.parametrize(
    "module",
    [
        "galmorph",
        "galmorph.cli",
        "galmorph.catalog",
        "galmorph.card",
        "galmorph.retrieval",
        "galmorph.source",
        "galmorph.doctor",
        "galmorph.report",
    ],
)
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_modules_are_short():
    assert {p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 500} == {}
