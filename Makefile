# make demo: install into .venv and do the main job offline. make test: install and run the test suite.
# make docs: build docs/_build/html, with warnings as errors.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# As many processes as cores, a thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# make packaging: build the wheel, and try it in a bare environment of each Python that there is; make lowest: with the
# lowest versions declared.
.PHONY: demo test check docs packaging lowest clean

demo: $(VENV)/.installed
	$(BIN)/galmorph demo --out demo

test: $(VENV)/.installed-dev
	$(PYTEST)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check galmorph tests benchmarks docs
	$(BIN)/ruff format --check galmorph tests benchmarks docs
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(PYTEST)

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/make_cli.py
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

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
