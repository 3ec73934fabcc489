# Everything runs in .venv, which make builds by itself; no environment need be active.
# Needed: make, a network for the first run, and Python >= 3.11 with its venv module.

VENV := .venv
BIN := $(VENV)/bin
# The name holds the path of the checkout: a copied or moved .venv still points to the old place.
STAMP := $(VENV)/installed-in-$(shell pwd -P | cksum | cut -d ' ' -f 1)
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q --no-user -c .ci/constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 VECLIB_MAXIMUM_THREADS=1 \
	NUMBA_NUM_THREADS=1 DUCC0_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -q

# What an active environment leaves in these would be imported in place of ours.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help reproduce test check lint types contracts package bench docs clean
.DELETE_ON_ERROR:

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

reproduce: $(STAMP) ## Draw the figures, fit, and write results/index.html (FULL=1: full statistics)
	$(BIN)/obsfit reproduce $(if $(filter 1,$(FULL)),--full)

test: $(STAMP) ## Run all tests and doctests
	$(PYTEST) -n auto --maxprocesses 8 -m "not packaging"

check: lint types contracts package ## Lint, types, import contracts, wheel and README

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

package: $(STAMP)
	$(PYTEST) -m packaging tests/packaging
	$(PYTEST) -k "commands or targets or links" tests/docs

bench: $(STAMP) ## Time our routes beside the usual ones
	$(ONE_THREAD) $(BIN)/python benchmarks/run.py

docs: $(STAMP) ## Build the pages into build/docs and check them
	rm -rf build/docs
	$(ONE_THREAD) $(BIN)/python -m sphinx -E -q -W --keep-going -b html -d build/doctrees docs build/docs
	OBSFIT_SITE=$(CURDIR)/build/docs $(PYTEST) tests/docs/test_site.py tests/docs/test_pages.py tests/docs/test_formulas.py

clean: ## Remove .venv, caches and build products; results/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find obsfit models data tests analyses benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml .ci/constraints.txt .ci/find-python
	@python=$$(PYTHON='$(PYTHON)' .ci/find-python) && \
		echo "Making $(VENV) with $$python; the first time this takes a minute or two" >&2 && \
		"$$python" -m venv --clear $(VENV)
	@$(INSTALL) hatchling editables
	@$(INSTALL) --no-build-isolation -e '.[cluster,events,fetch,emulator,docs,dev]'
	@touch $@
