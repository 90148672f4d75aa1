# Everything runs from a bare clone: `make demo`, `make test`. They make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PIP_FLAGS reaches every install, for example: make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_FLAGS ?=
# For example: make fuzz FUZZ_FLAGS="--seed 7 --examples 0.1 cards"
FUZZ_FLAGS ?=
DEMO_MODEL ?= subfields_single_fast
# What the tests of `make test` must reach in the rooms that compute, per cent of lines and of branches.
CORE_COVERAGE := --lines 95 --branches 95

.DEFAULT_GOAL := help
.PHONY: help install demo docs test lint test-slow test-install test-hpc test-container fuzz bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# Redone whenever the pins or the package's metadata change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_FLAGS) --editable . --group dev --group docs
	touch $@

install: $(VENV)/.installed ## make the virtual environment .venv

demo: $(VENV)/.installed ## segment the example dataset into ./demo and print where the reports are
	rm -rf demo
	$(BIN)/python tests/support/example_data.py demo/bids
	$(BIN)/bids-hsf demo/bids demo/derivatives/bids-hsf participant group --model $(DEMO_MODEL)
	@echo; echo "Reports, to be opened in a browser:"; ls $(CURDIR)/demo/derivatives/bids-hsf/*.html

docs: $(VENV)/.installed ## build the site into docs/_build/html, its pictures by a run on the example dataset
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo; echo "The site, to be opened in a browser: $(CURDIR)/docs/_build/html/index.html"

test: lint ## lint, types, import contracts, tests and their coverage
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --cov --cov-report=
	$(BIN)/coverage report
	$(BIN)/python tests/support/core_coverage.py $(CORE_COVERAGE)

lint: $(VENV)/.installed ## lint, types, import contracts and workflows alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

test-slow: $(VENV)/.installed ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-install: $(VENV)/.installed ## set up environments from this clone as the pages tell (git, pip's index; minutes)
	$(BIN)/python -m pytest -m install tests/install

test-hpc: $(VENV)/.installed ## the tests on a real Slurm (root, Debian's slurm-wlm and munge); they say why they are skipped
	$(BIN)/python -m pytest -m hpc tests/hpc

test-container: $(VENV)/.installed ## build the image without a daemon and run it as Docker and Singularity would (root, Debian)
	$(BIN)/python tests/container/run.py

fuzz: $(VENV)/.installed ## 60,000 files of strangers, for a quarter of an hour: no traceback, no hang, nothing touched
	$(BIN)/python tests/fuzz/run.py $(FUZZ_FLAGS)

bench: $(VENV)/.installed ## measure speed, stage by stage
	$(BIN)/python tests/benchmarks/speed.py

clean: ## remove everything that make made
	rm -rf $(VENV) demo bench dist docs/_build docs/_generated .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
