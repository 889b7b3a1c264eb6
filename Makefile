# Each target works alone on a machine that has only Python (3.11 or newer), git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,parquet,dinov2,video,deploy
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fmt bench clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(READY)  ## Create .venv with the tested versions of everything

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "gansharing needs Python 3.11 or newer; '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "'$(PYTHON) -m venv' failed: install your system's venv package (Debian: python3-venv)" >&2; exit 1; }
	$(BIN)/pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

demo: $(READY)  ## Train on the embedded emoji for a few minutes; print pictures and scores
	$(BIN)/gansharing fit --config experiments/demo.yaml

test: $(READY)  ## Run the tests on two processes
	$(BIN)/pytest -n 2

lint: $(READY)  ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY)  ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Run every benchmark; results in runs/benchmarks/*.json
	@mkdir -p runs/benchmarks
	@set -e; for script in benchmarks/*.py; do \
	  echo "== $$script"; $(BIN)/python $$script --out runs/benchmarks/$$(basename $$script .py).json; done

clean:  ## Remove the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
