# make demo: install into .venv and do the main job offline. make test: install and run the test suite.
# make check: lint and types. make docs: build docs/_build/html, with warnings as errors. make all: check, docs, test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKED := galmorph tests benchmarks docs
# As many processes as cores, a thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# make packaging: build the wheel, and try it in a bare environment of each Python that there is; make lowest: with the
# lowest versions declared.
.PHONY: demo all check lint imports types docs test packaging lowest clean

demo: $(VENV)/.installed
	$(BIN)/galmorph demo --out demo

all: check docs test

# Every check of the code that does not run it is a target of its own here.
check: lint imports types

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

imports: $(VENV)/.installed-dev
	PYTHONPATH=. $(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# Changes no file under version control: a page that is out of date fails its test.
docs: $(VENV)/.installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

test: $(VENV)/.installed-dev
	$(PYTEST)

packaging: $(VENV)/.installed-dev
	$(BIN)/python tests/support/bare_install.py

lowest: $(VENV)/.installed-dev
	$(BIN)/python tests/support/bare_install.py --lowest --python 3.11

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "galmorph needs Python 3.11 or newer: make PYTHON=python3.12 ..."'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo dist docs/_build
