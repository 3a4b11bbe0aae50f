# Two commands for everybody: `make run` and `make test`. Each sets up its own virtual environment from pinned, hashed packages.
PYTHON ?= python3
VENV ?= .venv
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

help: ## what there is to type
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.run: requirements/run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Hestia needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned packages into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.test: requirements/test.lock requirements/dev.lock $(VENV)/.run
	@echo "Installing pinned test packages into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

run: $(VENV)/.run ## the server with demo data on http://127.0.0.1:8080
	@exec $(BIN)/hestia serve

setup: $(VENV)/.test ## the virtual environment with everything for tests

test: $(VENV)/.test ## the whole test suite, on both stores
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.test ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## write the format that `make lint` checks
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test ## one table of speeds on both stores
	$(BIN)/python -m bench $(BENCH_ARGS)

lock: $(VENV)/.test ## pin the packages of pyproject.toml anew, with hashes and without any index address
	$(BIN)/python -m pip install --quiet pip-tools
	for set in run: test:"--extra test" dev:"--extra test --extra dev"; do \
	  eval $(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	    --strip-extras --allow-unsafe --no-header $${set#*:} -o requirements/$${set%%:*}.lock pyproject.toml; done

.PHONY: help run setup test lint format bench lock
