# Every goal makes .venv by itself, once; `make` alone lists the goals.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
UNFINISHED := .venv/unfinished
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

.PHONY: help demo test test-slow coverage zoo check lock

help:
	@echo "make demo      build the starter zoo from embedded data and show its results"
	@echo "make test      run the tests but the slow ones"
	@echo "make test-slow run the slow tests: real steps from recipe to release, every detector to ONNX"
	@echo "make coverage  what surgery does to 30 model families of torchvision, timm and mmyolo"
	@echo "make zoo       build every recipe"
	@echo "make check     formatting, lint and types"
	@echo "make lock      resolve requirements.lock again, keeping its versions where they still fit"

demo: $(STAMP)
	@echo "== building the starter zoo"
	@$(BIN)/doit -n 2 starter
	@$(BIN)/zoo results

zoo: $(STAMP)
	@$(BIN)/doit build

# One thread for each test process: together they fill the cores.
test: $(STAMP)
	@echo "== running the tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m "not slow"

test-slow: $(STAMP)
	@echo "== running the slow tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m slow

coverage: $(STAMP)
	@echo "== surgery on 30 model families"
	@$(BIN)/python benchmarks/surgery_coverage.py --subset ci --jobs 2

check: $(STAMP)
	@echo "== checking formatting, lint and types"
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

lock: $(STAMP)
	@$(PIP) install uv
	@$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --no-header --no-annotate --output-file requirements.lock

# An installation that was interrupted may hold half a package that pip takes for whole: it is made anew.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lite-zoo needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "== making .venv"; $(PYTHON) -m venv --clear .venv; fi
	@touch $(UNFINISHED)
	@echo "== installing what requirements.lock pins (a minute or two)"
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@rm -f $(UNFINISHED)
	@touch $(STAMP)
