"""Fixtures that several tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time, so that a commit that passed does not fail by itself.
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")
# For tests/fuzz: pytest tests/fuzz --hypothesis-profile=long
settings.register_profile("long", max_examples=10_000, derandomize=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real galaxies, files and weights beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "fits").is_dir():
        pytest.skip("the folder of real data ../shared is not here")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an untrained model of Galaxy Zoo 2's tree; no test changes it."""
    from made import model_file

    return model_file(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Commands that run inside a test set the level of the log: the next test has the usual one."""
    logger = logging.getLogger("galmorph")
    level = logger.level
    yield
    logger.setLevel(level)
