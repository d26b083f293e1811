# The only entry points a newcomer needs. Everything lives in .venv in this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
SCREENS := src/workshop_brain/web/static/index.html

.PHONY: run test lint bench docs wheel setup clean
.DELETE_ON_ERROR:

run: setup  ## start the main job and print the address of the screens
	@$(BIN)/brain up $(ARGS)

setup: $(VENV)/.run-ready $(SCREENS) $(VENV)/.kernels-ready

test: setup $(VENV)/.test-ready lint  ## install what the tests need, check everything
	@tools/frontend.sh $(VENV) test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup $(VENV)/.dev-ready  ## every benchmark, one after the other; figures on standard output
	$(BIN)/python -m bench $(ARGS)

docs: setup
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -W -q -b html docs build/docs

wheel: $(VENV)/.dev-ready $(SCREENS)  ## a wheel that holds the built screens
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) build dist src/workshop_brain/web/static frontend/node_modules

$(BIN)/python:
	@echo "==> making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; say PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run-ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> installing the brain (about two minutes the first time)"
	@$(PIP) install --progress-bar on -c constraints.txt -e . | grep -vE '^(Requirement already|Using cached)' || true
	@test -x $(BIN)/brain
	@touch $@

$(VENV)/.dev-ready: pyproject.toml constraints.txt $(VENV)/.run-ready
	@echo "==> installing the development tools"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.test-ready: $(VENV)/.dev-ready tools/test_servers.sh
	@tools/test_servers.sh
	@touch $@

$(SCREENS): frontend/package-lock.json frontend/package.json frontend/index.html $(shell find frontend/src frontend/public -type f 2>/dev/null) tools/frontend.sh | $(BIN)/python
	@tools/frontend.sh $(VENV)
	@touch $@

$(VENV)/.kernels-ready: $(shell grep -rlE 'from workshop_brain.kernel import' src/workshop_brain) $(VENV)/.run-ready
	@echo "==> compiling the kernels (about a minute the first time)"
	@$(BIN)/brain doctor --compile
	@touch $@
