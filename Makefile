# Every target works in a fresh clone. It needs Python 3.11, git, make and a package
# registry. VENV=path puts the environment elsewhere; `make test` passes ARGS to pytest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
override VENV := $(abspath $(VENV))
ARGS ?=
BENCH_VENV ?= benchmarks/.venv
override BENCH_VENV := $(abspath $(BENCH_VENV))

# DVC runs `python -m stages.NAME`: `dvc` and `python` must come from the environment.
export PATH := $(VENV)/bin:$(PATH)
# These variables would point Python and uv to another environment.
unexport PYTHONHOME PYTHONPATH
export VIRTUAL_ENV := $(VENV)

.PHONY: help setup setup-dev setup-gpu repro test test-optimized lint format check ci verify chaos audit
.PHONY: docs restore experiments debug bench bench-data bench-accuracy bench-scaling lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

ifneq ($(words $(VENV)),1)
$(error VENV: expected a path without spaces, found '$(VENV)'. Use another: VENV=/path)
endif

# $(call install,LOCK): installs a lock, unless the environment has it. pip steps in where
# uv fails: only pip reads the registry from pip.conf.
define install
@cmp -s $(1) $(VENV)/$(1) || { \
  echo "setup: installing $(1)"; \
  uv pip install --quiet --compile-bytecode --require-hashes -r $(1) \
    || pip install --quiet --require-hashes -r $(1); \
  cp $(1) $(VENV)/$(1); }
endef

# $(call check_folder,FOLDER,TARGET VARIABLE): refuses a folder that is no environment,
# because `venv --clear` would empty it.
define check_folder
{ found=; \
  if [ -L $(1) ]; then found="a symbolic link, whose target would be emptied"; \
  elif [ -e $(1) ] && [ ! -f $(1)/pyvenv.cfg ] && [ -n "$$(ls -A $(1))" ]; then \
    found="other files, which would be deleted"; fi; \
  [ -z "$$found" ] || { \
    echo "setup: $(1): expected an environment or nothing, found $$found." \
         "Move it away, or choose another place: make $(2)=/path/to/environment" >&2; \
    exit 1; }; }
endef

setup:  ## create the environment from requirements.lock; does nothing if it is up to date
	@cmp -s requirements.lock $(VENV)/requirements.lock || { \
	  $(call check_folder,$(VENV),setup VENV); \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "setup: expected Python 3.11 or newer, found $$($(PYTHON) -V)." \
	         "Choose another: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "setup: creating $(VENV), takes about a minute"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	  awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock; \
	  pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock; }
	$(call install,requirements.lock)

setup-dev: setup  ## add the development tools, from requirements-dev.lock
	$(call install,requirements-dev.lock)

setup-gpu: setup  ## add CUDA 13 for NVIDIA GPUs, from requirements-gpu.lock; untried on a GPU
	$(call install,requirements-gpu.lock)

repro: setup  ## run the pipeline: check, prepare, train, evaluate, export, report
	dvc repro

# Tests spend much of their time in XLA's compiler. So it optimizes few of them: where
# programs differ and their bits are equal only if it does. Some slow tests set
# XLA_FLAGS for the stages that they start.
UNOPTIMIZED := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
PYTEST := python -m pytest --numprocesses auto --dist loadfile

test: setup-dev  ## run the quick tests; ARGS="-m slow" for the slow ones
	XLA_FLAGS="$(UNOPTIMIZED)" $(PYTEST) $(ARGS)

test-optimized: setup-dev  ## run the tests that need XLA's optimizations
	$(PYTEST) -m optimized $(ARGS)

lint: setup-dev  ## check formatting, lint and types
	ruff format --check .
	ruff check .
	mypy

format: setup-dev  ## format the sources and fix what ruff can fix
	ruff format .
	ruff check --fix .

check: lint test  ## lint and test: green before every commit

ci:  ## what CI runs: lint, `make verify`, all tests; names the 20 slowest
	$(MAKE) lint
	$(MAKE) verify
	$(MAKE) test
	$(MAKE) test ARGS="-m slow --durations=20"
	$(MAKE) test-optimized

verify: setup  ## run the pipeline in a temporary clone and compare with the committed results
	python -m tests.helpers.verify

N ?= 200
chaos: setup  ## kill a training run N times at random and compare its outputs
	python -m tests.helpers.chaos --kills $(N)

docs: setup  ## write the parameter descriptions of src/config where people read them
	python -m tests.helpers.document

restore: setup  ## restore params.yaml, metrics/ and models/ as committed; keeps your code
	@touch params.yaml  # git may miss an edit of equal size in the same second
	git checkout -- params.yaml dvc.lock extra/dvc.lock metrics
	@errors=$$(dvc checkout --force 2>&1 > /dev/null) || { \
	  case "$$errors" in *"cache up to date"*) errors="restore: expected the committed\
	 results in DVC's cache, found some missing. Run: make repro" ;; esac; \
	  echo "$$errors" >&2; exit 1; }

# Without --drop, DVC's table has a column per headline and per changed source.
experiments: setup  ## compare all experiments in a table 120 characters wide
	COLUMNS=120 dvc exp show --no-pager --only-changed \
	  --drop 'Created|train|.*(f1|precision|recall|error)|test.loss|.*/'

debug: setup  ## train in a temporary copy with debug=true: prints every layer, finds the first NaN
	dvc exp run --temp -S debug=true train

bench-data: setup  ## prepare Fashion-MNIST and initial weights for the benchmarks
	python -m benchmarks.data benchmarks/.data

bench: bench-data  ## compare training speed with Flax's tutorial, Keras and PyTorch, reading with torchvision; 30 minutes, 3 GB of disk
	@cmp -s benchmarks/requirements.txt $(BENCH_VENV)/requirements.txt || { \
	  $(call check_folder,$(BENCH_VENV),bench BENCH_VENV); \
	  $(PYTHON) -m venv --clear $(BENCH_VENV); \
	  $(BENCH_VENV)/bin/pip install --quiet -r benchmarks/requirements.txt; \
	  cp benchmarks/requirements.txt $(BENCH_VENV)/requirements.txt; }
	$(BENCH_VENV)/bin/python -m benchmarks.equal_work --data benchmarks/.data
	$(BENCH_VENV)/bin/python -m benchmarks.bench --data benchmarks/.data
	dvc repro prepare
	python -m benchmarks.saving --data benchmarks/.data
	python -m benchmarks.scoring --data benchmarks/.data
	python -m benchmarks.pictures --torchvision $(BENCH_VENV)/bin/python

bench-accuracy: bench-data  ## compare time and accuracy on Fashion-MNIST, five seeds; 25 minutes
	python -m benchmarks.accuracy --data benchmarks/.data

bench-scaling: bench-data  ## time and memory up to 6 million images, devices, processes; 12 minutes, 10 GB
	dvc repro prepare
	python -m benchmarks.scaling --data benchmarks/.data

audit: setup  ## check the locked packages for known vulnerabilities; needs a network
	@# requirements-gpu.lock contains requirements.lock.
	uv tool run --quiet pip-audit@2.10.1 --strict --require-hashes --disable-pip \
	  --progress-spinner off --vulnerability-service osv $(ARGS) \
	  -r requirements-gpu.lock -r requirements-dev.lock \
	  || { echo "audit: found vulnerabilities, or the database did not answer: see above" >&2; exit 1; }

# In this order: the first lock constrains the others.
LOCKS := requirements requirements-dev requirements-gpu
lock: setup  ## write the locks from requirements*.in; ARGS=--upgrade for newer versions
	for name in $(LOCKS); do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header $(ARGS) $$name.in -o $$name.lock; done

clean:  ## remove everything that can be made again, except the environment
	rm -rf live models data/prepared .mypy_cache .pytest_cache .ruff_cache
