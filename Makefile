# `make` alone lists the tasks. Every task does its own set-up.
.DEFAULT_GOAL := help
.PHONY: help install demo shop shop-audit test check format lock bench chaos judge clean
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
# Bytecode is kept, whatever the surroundings say: the tests start hundreds of processes, and each would compile anew.
export PYTHONDONTWRITEBYTECODE :=

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## make .venv with everything, .venv/bin/mainstay included

.venv/installed: pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Mainstay needs Python 3.11 or newer; name one with: make PYTHON=python3.12 install"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: install ## take the shipped shop apart and prove its three sharp edges
	$(BIN)/mainstay demo

# DATABASE_URL=postgresql://… names an empty database on a server to use; else a server is started for the while.
SHOP = cd examples/shop && exec ../../$(BIN)/python -m
ON = $(if $(DATABASE_URL),--database-url '$(DATABASE_URL)')

shop: install ## run the durable shop: service, worker, stub providers (WORKERS=1)
	@$(SHOP) operate.run $(ON) --workers $(or $(WORKERS),1)

shop-audit: install ## orders under load, all that may die killed, then the books (SECONDS=60 SEED=1)
	@$(SHOP) operate.audit $(ON) --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

test: check ## all checks and tests, as CI runs them
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder  # twice as many as cores, since tests wait for processes

check: install ## formatter, linter, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## format and mend what the linter can mend
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

bench: install ## measure beside peers and write docs/benchmarks.md
	$(BIN)/python benchmarks/run.py

chaos: install ## kill at random a thousand times, audit, and write docs/chaos.md (about 15 minutes; KILLS=n, SEED=n)
	$(BIN)/python tests/chaos/campaign.py --kills $(or $(KILLS),1000) $(if $(SEED),--seed $(SEED))

judge: install ## hold design's formulas against a simulation, and write docs/design-formulas.md (BLUEPRINTS=150 FIRST=5000)
	$(BIN)/python tests/design/judge.py --write --blueprints $(or $(BLUEPRINTS),150) --first $(or $(FIRST),5000)

lock: install ## lock all dependencies anew, with hashes and without index addresses
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --upgrade --all-extras --group dev pyproject.toml -o requirements/dev.txt
	echo uv | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --upgrade - -o requirements/uv.txt

clean: ## remove what the tasks made
	rm -rf .venv .mainstay .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
