"""The layout states the architecture. That imports point down, and no package has a circle, import-linter checks."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import cutout

from galmorph import registry
from galmorph.images.cutout import write_cutout

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


def test_a_run_imports_no_compiler(tmp_path):
    """torch's compiler and what it needs take longer to import than all the rest."""
    write_cutout(cutout(), tmp_path / "a.fits")
    code = (
        "import sys, galmorph; galmorph.classify(sys.argv[1], device='cpu'); "
        "print(sorted({'torch._dynamo', 'sympy', 'torchvision', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.fits")], check=True, capture_output=True)
    assert done.stdout.split() == [b"[]"]


def test_modules_are_short():
    assert {p.name: n for p in modules() if (n := len(p.read_text().splitlines())) > 500} == {}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function of the package as (dotted name, node)."""
    for path in modules():
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}", node


def test_functions_are_short():
    """Lines of code: neither the docstring counts nor the signature, which of a command lists its options."""
    lengths = {}
    for name, node in functions():
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lengths[name] = node.end_lineno - body[0].lineno + 1 if body else 0
    assert {name for name, n in lengths.items() if n > 80} == set()


def test_public_functions_have_few_parameters():
    wide = {
        name
        for name, node in functions()
        if not name.startswith("cli.")
        and not node.name.startswith("_")
        and len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) > 15
    }
    assert wide == set()


def test_packages_have_few_modules():
    counts = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in modules())
    assert {package: n for package, n in counts.items() if n > 20} == {}


def test_entries_are_loaded_from_above_them():
    """What `registry.load` imports by name must lie below the package that asks for it, as a written import must."""
    layers = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0][
        "layers"
    ]
    floor = {package: -height for height, line in enumerate(layers) for package in line.split(" | ")}
    calls = [
        (path.relative_to(PACKAGE).parts[0].removesuffix(".py"), kind)
        for path in modules()
        for kind in re.findall(r"registry\.load\(\s*\"(\w+)\"", path.read_text())
    ]
    assert {kind for _, kind in calls} == set(registry.KINDS)
    upward = {
        (caller, kind)
        for caller, kind in calls
        if caller != (home := registry.KINDS[kind][0].split(".")[0]) and floor[caller] <= floor[home]
    }
    assert upward == set()
