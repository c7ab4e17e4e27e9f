# Two commands: `make sweep` and `make test`. Everything happens in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SWEEP ?= sweeps/complexity_by_domain.yaml
JOBS ?= 1

.DEFAULT_GOAL := help
.PHONY: help sweep test check proofs clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.run: pyproject.toml constraints.txt setup.py workloads/upstreams/nca/native.c
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[run]'
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@

sweep: $(VENV)/.run ## run sweeps/complexity_by_domain.yaml at scale tiny on this machine
	$(BIN)/orchestrator sweep $(SWEEP)

test: $(VENV)/.test ## run the tests
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test ## ruff, mypy --strict, architecture test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

proofs: SHELL := /bin/bash
proofs: .SHELLFLAGS := -o pipefail -c
proofs: $(VENV)/.test ## the long demonstrations, JOBS=1 at once; output is kept under docs/proofs/
	mkdir -p docs/proofs
	$(BIN)/python -m pytest -m "slow or slurm or proof" --timeout 3600 -vv $(if $(filter-out 1,$(JOBS)),-n $(JOBS)) 2>&1 | tee docs/proofs/$$(date -u +%Y-%m-%d-%H%M).txt

clean: ## remove the virtual environment and caches (never the store)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
