# `make` explains. Each target makes the virtual environment it needs by itself.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
HAS_ROOT := import ROOT; ROOT.gROOT
CXX_FILES = $(shell git ls-files 'cpp/*.hxx' 'cpp/*.hpp' 'cpp/*.cpp' 'tutorials/*.C' 'tutorials/*.cpp')

.PHONY: help demo test test-slow lint bench clean
.NOTPARALLEL:

help:
	@echo "make demo       run a jet tagger over simulated events, with progress and a plot"
	@echo "make test       lint, then all tests but the slow ones"
	@echo "make test-slow  the slow tests"
	@echo "make lint       ruff, mypy and clang-format"
	@echo "make bench      compare with ONNX Runtime on this machine"
	@echo "make clean      remove $(VENV), caches and what the tutorials wrote"
	@echo
	@echo "They use $(VENV), made from PYTHON=$(PYTHON). If that Python can import ROOT, its ROOT is"
	@echo "used; if not, the ROOT wheel is installed from PyPI (about 1 GB, once)."

demo: $(STAMP)
	@$(BIN)/python tutorials/demo.py

test: lint
	@echo "== pytest"
	@$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -n 2 -m slow

lint: $(STAMP)
	@echo "== ruff"
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --quiet --check .
	@echo "== mypy"
	@$(BIN)/mypy --no-error-summary
	@echo "== clang-format"
	@$(if $(CXX_FILES),$(BIN)/clang-format --dry-run -Werror $(CXX_FILES))

bench: $(STAMP)
	@$(BIN)/python -m rootbench

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist tutorials/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@echo "== making $(VENV) (once; a few minutes if ROOT has to be downloaded)"
	@rm -rf $(VENV)
	@if (cd / && $(PYTHON) -c "$(HAS_ROOT)") >/dev/null 2>&1; then \
	    $(PYTHON) -m venv --system-site-packages $(VENV); \
	else \
	    $(PYTHON) -m venv $(VENV); \
	fi
	@if (cd / && $(abspath $(BIN))/python -c "$(HAS_ROOT)") >/dev/null 2>&1; then \
	    echo "   with the ROOT that $(PYTHON) has"; extras=demo,test; \
	else \
	    echo "   with ROOT from PyPI"; extras=root,demo,test; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$$extras]"
	@touch $@
