"""A hundred thousand targets: start, resume and status take seconds, and memory does not grow with the list."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

N = 100_000


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark's steps, each in a process of its own."""
    spec = spec_from_file_location("fetch_benchmark", Path(__file__).parents[2] / "benchmarks" / "fetch.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_many_targets(benchmark, tmp_path):
    steps = {}
    for n in (1000, N):
        table, out = benchmark.catalog(tmp_path / f"{n}.csv", n), tmp_path / str(n)
        started = benchmark.child("step", table, out, 0)
        benchmark.pretend(out)
        steps[n] = started, benchmark.child("step", table, out, n), benchmark.child("status", out)
    _, resumed, asked = steps[N]
    assert (resumed["ok"], resumed["requests"]) == (N, 0)
    assert asked["ok"] == N
    for few, many in zip(steps[1000], steps[N], strict=True):
        assert many["cpu_s"] < 8  # 60 s per million rows, of a fetch that takes days
        assert many["peak_mb"] - few["peak_mb"] < 30
