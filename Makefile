# `make` explains. Each target makes the virtual environment it needs by itself.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := $(VENV)/.peers
SITE   := $(VENV)/.site
BENCH  ?= --all --events
MINUTES ?= 30
# Only these plugins: a venv that sees the system's packages would load whatever else is there.
PYTEST = PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -p xdist -p hypothesispytest -n 2
CXX_FILES = $(shell git ls-files 'cpp/*.hxx' 'cpp/*.hpp' 'cpp/*.cpp' 'tutorials/*.C' 'tutorials/*.cpp')

# Tests of what is computed, whichever kernels compute it; SOFIE_ROOT_KERNELS forces them on or off.
NUMERIC = tests/test_compiled_operators.py tests/test_generated_sessions.py tests/test_conformance.py \
          tests/test_symbolic_dims.py tests/test_algebra.py tests/test_zoo.py

.PHONY: help demo test test-slow test-kernels conformance fuzz fuzz-files lint docs bench clean
.NOTPARALLEL:

help:
	@echo "make demo       run a jet tagger over simulated events, with progress and a plot"
	@echo "make test       lint, then all tests but the slow ones"
	@echo "make test-slow  the slow tests"
	@echo "make test-kernels  the numeric tests with all specialised kernels forced on, then off"
	@echo "make conformance  ONNX's backend tests through C++; writes docs/operators.md"
	@echo "make fuzz       random graphs through C++ against ONNX Runtime, MINUTES=30, from SEED=the time;"
	@echo "                FUZZ='--only Conv' for more; see cd tests; ../$(BIN)/python -m fuzz --help"
	@echo "make fuzz-files  mutated model files, weights and cache entries; MINUTES, SEED and FUZZ as above"
	@echo "make lint       ruff, mypy and clang-format"
	@echo "make docs       the documents as a site, in build/site/index.html"
	@echo "make bench      compare with ONNX Runtime, OpenVINO and PyTorch on this machine (25 minutes)"
	@echo "                BENCH='--quick' for less; see $(BIN)/python -m rootbench --help"
	@echo "make clean      remove $(VENV), caches and what the tutorials wrote"
	@echo
	@echo "They use $(VENV), made from PYTHON=$(PYTHON). If that Python can import ROOT, its ROOT is"
	@echo "used; if not, the ROOT wheel is installed from PyPI (a download of 250 MB)."

demo: $(STAMP)
	@$(BIN)/python tutorials/demo.py

test: lint
	@echo "== pytest"
	@$(PYTEST) -m "not slow"

test-slow: $(STAMP)
	@$(PYTEST) -m slow

test-kernels: $(STAMP)
	@SOFIE_ROOT_KERNELS=always $(PYTEST) -m "not slow" $(NUMERIC)
	@SOFIE_ROOT_KERNELS=never $(PYTEST) -m "not slow" $(NUMERIC)

conformance: $(STAMP)
	@cd tests && ../$(BIN)/python -m conformance

fuzz: $(STAMP)
	@cd tests && ../$(BIN)/python -m fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(FUZZ)

fuzz-files: $(STAMP)
	@cd tests && ../$(BIN)/python -m fuzz_files --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(FUZZ)

lint: $(STAMP)
	@echo "== ruff"
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --quiet --check .
	@echo "== mypy"
	@$(BIN)/mypy --no-error-summary
	@echo "== clang-format"
	@$(if $(CXX_FILES),$(BIN)/clang-format --dry-run -Werror $(CXX_FILES))

docs: $(SITE)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

bench: $(PEERS)
	@$(BIN)/python -m rootbench $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist tutorials/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@echo "== making $(VENV) (once; a few minutes if ROOT has to be downloaded)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv --system-site-packages $(VENV)
	@if (cd / && $(abspath $(BIN))/python -c "import ROOT; ROOT.gROOT") >/dev/null 2>&1; then \
	    echo "   with the ROOT that $(PYTHON) has"; extras=demo,test; \
	else \
	    echo "   with ROOT from PyPI"; extras=root,demo,test; \
	    $(PYTHON) -m venv --clear $(VENV) || exit 1; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$$extras]"
	@touch $@

# Only for `make docs`.
$(SITE): $(STAMP)
	@echo "== installing MkDocs (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

# Only for `make bench`. Without them it runs too, and says what it could not compare with.
$(PEERS): $(STAMP)
	@echo "== installing what is compared with (once; for PyTorch: $(BIN)/pip install torch)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]" || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check onnxruntime matplotlib
	@touch $@
