# `make demo`: install and run the digits study. `make test`: install and run every check. `make tables`: write the
# tables of docs/results.md anew from results/. `make faults`: the long version of tests/faults, for hours; a share of it
# by SHARE=0.1. Nothing else is needed but Python 3.11 or newer; PYTHON=… names another one.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := demo

.PHONY: demo test lint tables faults clean

demo: .venv/installed
	$(BIN)/brainrdl reproduce digits --out $(DEMO) --seeds 3 --tries 2

# two processes of one thread each: two threads of one process mostly wait for each other
test: .venv/installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tables: .venv/installed
	$(BIN)/python results/tables.py

SHARE := 1
faults: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults --share $(SHARE)

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "brainrdl needs Python 3.11 or newer, this is " + sys.version'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv $(DEMO)
