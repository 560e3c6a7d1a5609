PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help install demo test test-chaos lint bench protos clean

help:            ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

install: $(VENV)/.installed  ## make .venv and install everything into it

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install    ## train a small transformer on four ranks, about two minutes
	$(BIN)/remesh run configs/quickstart.yaml

test: install    ## the fast suite: unit and integration tests
	$(BIN)/python -m pytest tests/unit tests/simulation tests/fuzz -n 2 -q -m "not slow"
	$(BIN)/python -m pytest tests/integration tests/gpu -n 2 --dist loadfile -q -m "not slow"

test-chaos: install  ## the slow suite: kills, stops, partitions
	$(BIN)/python -m pytest tests -q -m slow

lint: install    ## ruff, mypy, import-linter, and whether every test can be imported
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --collect-only --quiet tests > /dev/null

bench: install   ## every benchmark, each ending in one JSON line
	for b in benchmarks/*.py; do $(BIN)/python $$b || exit 1; done

protos: install  ## generate rendezvous/wire from protos/ again
	$(BIN)/python protos/generate.py

clean:           ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
