"""The rules of the layout: imports, and the sizes of packages, modules and functions."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from importlinter import cli
from made import cutout

from galmorph import registry
from galmorph.images.cutout import write_cutout

PACKAGE = Path(__file__).parents[1] / "galmorph"


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


# Packages that torch would make slow to import. The demo classifies, and kernels are of torch's tensors.
LIGHT = ("files", "schemas", "tables", "images", "retrieval", "selection", "reports", "cli")
NEEDS_TORCH = {"galmorph.cli.demo", "galmorph.images.gpu.triton_colours"}


def test_light_packages_do_not_import_torch():
    inside = {f"galmorph.{name}" for path in modules() if (name := dotted(path)).partition(".")[0] in LIGHT}
    assert {name.split(".")[1] for name in inside} == set(LIGHT)
    others = {"galmorph", "galmorph.registry", "galmorph.models.card", "galmorph.classification.sources"}
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(name)"
    )
    names = sorted((inside | others) - NEEDS_TORCH)
    done = subprocess.run([sys.executable, "-c", code, *names], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_imports_point_down_without_circles(monkeypatch):
    """The contracts in pyproject.toml, as ``make imports`` checks them."""
    monkeypatch.chdir(PACKAGE.parent)
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)  # which would silence all loggers for later tests
    assert cli.lint_imports(cache_dir=None, no_cache=True) == cli.EXIT_STATUS_SUCCESS


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


def dotted(path: Path) -> str:
    """The name of a module without that of the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function of the package as (dotted name, node)."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{dotted(path)}.{node.name}", node


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
