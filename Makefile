# Every target works on a bare clone: Python 3.11, git, make and a package registry.
# VENV=path puts the environment elsewhere; ARGS are handed to pytest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
override VENV := $(abspath $(VENV))
ARGS ?=
BENCH_VENV ?= benchmarks/.venv
override BENCH_VENV := $(abspath $(BENCH_VENV))

# `dvc` runs `python -m stages.NAME`: both must be the environment's own.
export PATH := $(VENV)/bin:$(PATH)
# A variable of another project's environment would lead Python and uv astray.
unexport PYTHONHOME PYTHONPATH
export VIRTUAL_ENV := $(VENV)

.PHONY: help setup repro test lint format check verify chaos audit docs restore debug bench bench-data bench-accuracy bench-scaling lock clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

ifneq ($(words $(VENV)),1)
$(error VENV: expected a path without spaces, found '$(VENV)'. Say VENV=/another/path)
endif

setup:  ## the environment, from requirements.lock; quick when nothing changed
	@cmp -s requirements.lock $(VENV)/requirements.lock || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "setup: expected Python 3.11 or newer, got $$($(PYTHON) -V)." \
	         "Say which one to use: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "setup: making $(VENV) from requirements.lock, about half a minute"; \
	  $(PYTHON) -m venv --clear $(VENV); \
	  awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock; \
	  pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock; \
	  uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock \
	    || pip install --quiet --require-hashes -r requirements.lock; \
	  cp requirements.lock $(VENV)/requirements.lock; }

repro: setup  ## the pipeline: check, prepare, train, evaluate, export, report
	dvc repro

test: setup  ## the tests; ARGS="-m slow" for the slow ones, ARGS="-m ''" for all
	python -m pytest --numprocesses auto --dist worksteal $(ARGS)

lint: setup  ## formatting, lint and types
	ruff format --check .
	ruff check .
	mypy

format: setup  ## rewrites what `make lint` finds wrong and can mend
	ruff format .
	ruff check --fix .

check: lint test  ## lint and tests: green before every commit

verify: setup  ## runs the pipeline in a temporary clone, compares with the committed metrics
	python -m tests.helpers.verify

N ?= 200
chaos: setup  ## kills a real run N times at random moments and compares what comes out
	python -m tests.helpers.chaos --kills $(N)

docs: setup  ## the comments in params.yaml and the README's table, from src/config.py
	python -m tests.helpers.document

restore: setup  ## params.yaml, dvc.lock, metrics/ and models/ as committed; your code stays
	@touch params.yaml  # git compares whole seconds: an edit of equal size may hide
	git checkout -- params.yaml dvc.lock extra/dvc.lock metrics
	dvc checkout --quiet --force  # what it writes over can be made again

debug: setup  ## trains as params.yaml says, in a temporary copy, printing every layer; finds the first NaN
	dvc exp run --temp -S debug=true train

bench-data: setup
	python -m benchmarks.data benchmarks/.data

bench: bench-data  ## the contestants side by side, in an environment of their own; twenty minutes
	@cmp -s benchmarks/requirements.txt $(BENCH_VENV)/requirements.txt || { \
	  $(PYTHON) -m venv --clear $(BENCH_VENV); \
	  $(BENCH_VENV)/bin/pip install --quiet -r benchmarks/requirements.txt; \
	  cp benchmarks/requirements.txt $(BENCH_VENV)/requirements.txt; }
	$(BENCH_VENV)/bin/python -m benchmarks.equal_work --data benchmarks/.data
	$(BENCH_VENV)/bin/python -m benchmarks.bench --data benchmarks/.data
	python -m benchmarks.saving --data benchmarks/.data

bench-accuracy: bench-data  ## how soon and how far on Fashion-MNIST, five seeds; twenty minutes
	python -m benchmarks.accuracy --data benchmarks/.data

bench-scaling: bench-data  ## time and memory up to 6 million images, devices, processes; 12 minutes, 10 GB
	dvc repro prepare
	python -m benchmarks.scaling --data benchmarks/.data

audit: setup  ## the locked libraries against known advisories, by pip-audit; needs a network
	uv tool run --quiet pip-audit@2.10.1 --strict --require-hashes --disable-pip \
	  --progress-spinner off --vulnerability-service osv $(ARGS) -r requirements.lock \
	  || { echo "audit: found advisories, or no answer from their database: see above" >&2; exit 1; }

lock: setup  ## requirements.lock anew, from requirements.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --upgrade requirements.in -o requirements.lock

clean:  ## removes what can be made again, but for the environment
	rm -rf models data/prepared .mypy_cache .pytest_cache .ruff_cache
