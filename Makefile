# make demo   the main job on the embedded network: accuracy against hardware cost, within a minute of installing
# make test   everything the tests check (needs about ten minutes); make check is its fast part
#
# PYTHON=python3.12    another interpreter (3.11 or newer)
# TORCH_INDEX=URL      an extra package index with a CPU-only torch; without it pip takes torch from its own index,
#                      which on x86 Linux brings the CUDA libraries (several GB)
# DEMO="..."           more arguments for qsim-search, as in make demo DEMO="hardware=asic_45nm"

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
DEMO ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
# Left out: ours.py is an adapter that another program's benchmark reads; those that need the networks of ../shared take --zoo
NOT_PLAIN := ours __init__ __main__ ptq block_study int_or_float circuits finn_kws reconstruction transforms sensitivity sensitivity_report \
  search_bars search_networks search_study search_table
BENCHMARKS := $(filter-out $(NOT_PLAIN),$(basename $(notdir $(wildcard tests/benchmarks/*.py))))
PARALLEL := -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types fast install install-dev test-consumers test-launchers benchmark wheel clean

help:
	@echo "make demo             install, then search the embedded network (add options with DEMO=\"...\")"
	@echo "make test             install, then ruff, mypy and all tests but the heavy consumers"
	@echo "make check            ruff, mypy and the fast tests"
	@echo "make test-consumers   load exported files in the tools they are made for"
	@echo "make test-launchers   sweeps on Ray and submitit, in an environment of their own"
	@echo "make benchmark        what a configuration costs, beside float32 torch"
	@echo "make wheel            build dist/qsim-*.whl"

demo: install
	$(BIN)/qsim-search $(DEMO)

test: install-dev lint types
	$(PYTEST) $(PARALLEL) -m "not consumer"

check: install-dev
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types fast

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

fast:
	$(PYTEST) $(PARALLEL) -q -m "not slow and not consumer"

test-consumers: $(VENV)/.consumers
	$(PYTEST) -m consumer

benchmark: install-dev
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

test-launchers: $(VENV)-launchers/.installed
	$(VENV)-launchers/bin/python -m pytest -m consumer tests/end_to_end/test_launchers.py

wheel: install-dev
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Installing. A stamp file stands for each stage; it is renewed when what it installs from changes.

install: $(VENV)/.run
install-dev: $(VENV)/.dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "qsim needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; } \
	  || { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch goes first and alone: a dependency that merely asks for torch would pull the newest one.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.run: pyproject.toml $(VENV)/.torch
	@echo "installing qsim"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing what the tests need"
	@$(PIP) -e ".[dev]"
	@touch $@

$(VENV)/.consumers: $(VENV)/.dev
	@echo "installing the tools that read exported files"
	@$(PIP) -e ".[dev,onnxruntime,qonnx,hls4ml]"
	@touch $@

# The launchers pin older packages than constraints.txt has, so they live apart; only torch is pinned there.
$(VENV)-launchers/.installed: pyproject.toml $(VENV)/.torch
	$(PYTHON) -m venv $(VENV)-launchers
	@$(VENV)-launchers/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@$(VENV)-launchers/bin/python -m pip install --quiet -e ".[dev,ray,slurm]"
	@touch $@
