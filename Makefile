# Needs Python >= 3.11 and make; everything else lands in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

.PHONY: suites test lint types bench clean

suites: $(VENV)/installed  ## run the findings on the embedded pair
	$(BIN)/python -m pytest suites $(ARGS)

test: $(VENV)/installed  ## run the project's own tests
	$(BIN)/python -m pytest tests $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python benchmarks/attribution.py $(ARGS)

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tuneshift needs Python 3.11 or newer; this is %s. Try make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache tuneshift-results
