# Needs Python >= 3.11 and make; everything else lands in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
TESTS ?= tests

.PHONY: suites test lint types docs bench real clean

suites: $(VENV)/installed  ## run the findings on the embedded pair
	$(BIN)/python -m pytest suites $(ARGS)

# A worker a core, up to eight (each holds a gigabyte of libraries), one thread each. Halves and not a test at a time,
# so that tests that share a fixture stay on one worker.
test: $(VENV)/installed  ## run the project's own tests on all cores; ARGS="-n 0" for one process
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS) --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/broken_lines.py

types: $(VENV)/installed
	$(BIN)/mypy

docs: $(VENV)/installed  ## the documentation, in site/; a warning is an error
	$(BIN)/python docs/pages.py --check
	$(BIN)/python docs/rooms.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/installed
	$(BIN)/python benchmarks/attribution.py $(ARGS)

# Days of one core in sittings of two hours, each of which goes on where the last one stopped; ARGS="--help" says more.
real: $(VENV)/installed  ## the papers' experiments on two public models, and docs/real-pairs.md
	$(BIN)/python benchmarks/real/run.py $(ARGS)

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tuneshift needs Python 3.11 or newer; this is %s. Try make PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache site tuneshift-results
