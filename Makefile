# Every target makes its own virtual environment from the lock; nothing but Python, make and a package index is needed.
# Variables: PYTHON, PYTHON313, PYTEST_ARGS, KEEP, SCALE, ROUNDS, WORKLOADS, UPGRADE.

PYTHON ?= python3
PYTHON313 ?= python3.13
VENV := .venv
VENV313 := .venv-3.13
BIN := $(VENV)/bin
INSTALL := -m pip install --disable-pip-version-check --quiet --require-hashes
EDITABLE := -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
PYTEST_ARGS ?= -n 2
SOURCES := jobs scheduler tests

.DEFAULT_GOAL := help
.PHONY: help test lint pytest test-313 demo bench format lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The dependencies follow the lock; the project itself is installed again when pyproject.toml changes.
%/lock.stamp: requirements/dev.txt
	@echo "Making $* from requirements/dev.txt"
	@rm -rf $*
	@$(if $(filter $(VENV313),$*),$(PYTHON313),$(PYTHON)) -m venv $*
	@$*/bin/python $(INSTALL) -r requirements/dev.txt
	@touch $@

%/dev.stamp: %/lock.stamp pyproject.toml
	@$*/bin/python $(EDITABLE)
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp requirements/bench.txt
	@echo "Adding the benchmark's peers from requirements/bench.txt"
	@$(BIN)/python $(INSTALL) -r requirements/bench.txt
	@touch $@

.PRECIOUS: %/lock.stamp %/dev.stamp

test: lint pytest ## Everything that must pass: lint, types, layers, tests

lint: $(VENV)/dev.stamp ## Style, types and the layers of the design
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: $(VENV)/dev.stamp ## The tests alone; PYTEST_ARGS="-k parts" narrows them
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-313: $(VENV313)/dev.stamp ## The fast tests on Python 3.13
	$(VENV313)/bin/python -m pytest $(PYTEST_ARGS) tests/core tests/jobs

demo: $(VENV)/dev.stamp ## A replication, damaged and repaired, on this machine; KEEP=1 leaves the server running
	@KEEP=$(KEEP) $(BIN)/python -m tests.demo.demo

bench: $(VENV)/bench.stamp ## Sealift against its peers; SCALE=0.1 ROUNDS=1 WORKLOADS=small,large for less
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.benchmarks.bench

format: $(VENV)/dev.stamp ## Mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --universal --python-version 3.11

lock: $(VENV)/dev.stamp ## Resolve the dependencies again; UPGRADE=1 takes newer ones
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --output-file requirements/dev.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --extra bench --constraint requirements/dev.txt \
		--output-file requirements/bench.txt

clean: ## Remove environments, caches and results
	rm -rf $(VENV) $(VENV313) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
