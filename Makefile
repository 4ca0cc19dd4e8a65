# `make book` and `make test` do all set-up; they need Python 3.11 or newer, and make. See `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
PAGE := _build/html/index.html

# what the pages are made of; folders too, so that a removed page is noticed (not book itself: that is a target)
BOOK_SOURCES := $(shell find book -mindepth 1 \( -name node_modules -o -name '_vendor.*' \) -prune -o -print)
API_SOURCES := $(shell find clipnb -name '*.py' -o -name '*.md')

# nothing outside this folder is touched: text vectors are kept here too
export CLIPNB_CACHE ?= $(CURDIR)/.cache/clipnb

.PHONY: help book pdf kit lab notebooks check test bench linkcheck lock clean install

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: notebooks ## run the notebooks and build the book into _build/html
	@$(VENV)/bin/python -m tools.book.page_scripts
	@$(VENV)/bin/python -m tools.book.browser_model
	@$(MAKE) -s $(PAGE)
	@echo "The book: $(CURDIR)/$(PAGE)"

pdf: book ## the book as one PDF, _build/book.pdf (needs a Chromium, as the tests do)
	@$(VENV)/bin/python -m tools.book.chromium
	@$(VENV)/bin/python -m tools.book.pdf

kit: book ## for lecturers: slides (HTML and PDF), quizzes for Moodle and QTI, question bank and answer key
	@$(VENV)/bin/python -m tools.book.chromium
	@$(VENV)/bin/python -m tools.book.slides
	@$(VENV)/bin/python -m tools.book.quizzes

lab: install ## open the notebooks in JupyterLab
	@$(VENV)/bin/jupyter lab notebooks

notebooks: install ## run the notebooks that changed, into book/notebooks
	@$(VENV)/bin/python -m tools.book.run_notebooks

# Always from scratch: a second Sphinx run would not repeat the warnings of the pages it does not read again.
$(PAGE): $(BOOK_SOURCES) $(API_SOURCES) $(wildcard benchmarks/results/*.md) book/_ext/book_pages.py _config.yml CITATION.cff pyproject.toml
	@rm -rf _build
	@echo "Building the pages ..."
	@$(VENV)/bin/jupyter-book build book/ --config _config.yml --path-output . -W -n --keep-going --quiet >/dev/null

# examples of many seconds each, which `make test` runs
SLOW_DOCTESTS := clipnb/zeroshot.py::clipnb.zeroshot.hard_views clipnb/paper/methods.py::clipnb.paper.methods.compare_methods \
  clipnb/paper/reproduce.py::clipnb.paper.reproduce.rehearse clipnb/paper/reproduce.py::clipnb.paper.reproduce.reproduce
check: install ## before a commit: format, lint, types, unit tests and doctests (about two minutes)
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/basedpyright
	@$(VENV)/bin/pytest -q -n auto tests/unit clipnb -m "not slow" $(addprefix --deselect ,$(SLOW_DOCTESTS))

# Two processes, which take about as long as each other; the second runs all that the first does not. Each writes its
# report at its end, so that one that has vanished is noticed.
FIRST_TESTS := $(addprefix tests/slow/,test_book.py test_faults.py test_notebooks.py test_visible_cells.py)
test: book ## everything that proves the project: unit tests, doctests, notebooks, the book in a browser
	@$(VENV)/bin/python -m tools.book.chromium
	@rm -f _build/first.xml _build/second.xml
	@echo "Testing in two processes; what the first prints follows the second ..."
	@$(VENV)/bin/pytest $(FIRST_TESTS) --junitxml=_build/first.xml > _build/first.log 2>&1 & first=$$!; failed=0; \
	  $(VENV)/bin/pytest tests clipnb $(addprefix --ignore=,$(FIRST_TESTS)) --junitxml=_build/second.xml || failed=1; \
	  wait $$first || failed=1; cat _build/first.log; test -s _build/first.xml -a -s _build/second.xml || failed=1; exit $$failed

bench: install ## time and memory beside other tools, into benchmarks/results (half an hour, on a machine doing nothing else)
	@$(VENV)/bin/python -m benchmarks.evaluate
	@$(VENV)/bin/pip install -qq 'clip-benchmark==1.6.2'
	@$(VENV)/bin/python -m benchmarks.encode
	@$(VENV)/bin/python -m benchmarks.gpu
	@$(VENV)/bin/python -m benchmarks.reading
	@$(VENV)/bin/python -m benchmarks.reproduce
	@$(VENV)/bin/python -m benchmarks.class_bias
	@$(VENV)/bin/python -m benchmarks.growth
	@$(VENV)/bin/python -m benchmarks.commands

linkcheck: notebooks ## do the links to other sites work? (needs the network)
	@$(VENV)/bin/jupyter-book build book/ --config _config.yml --path-output _build/linkcheck --builder linkcheck --quiet

install: $(INSTALLED) ## create .venv with exactly what requirements.lock names

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 $(or $(MAKECMDGOALS),book)")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing requirements.lock into $(VENV) (the first time takes some minutes) ..."
	@$(VENV)/bin/pip install -qq --require-hashes --no-deps -r requirements.lock
	@$(VENV)/bin/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

# uv resolves for every platform at once, which pip cannot; it is no dependency of the project, so it lives apart
lock: ## resolve pyproject.toml into requirements.lock (UPGRADE=--upgrade takes newer versions)
	@test -x .cache/uv/bin/uv || { $(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install -qq uv; }
	@.cache/uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --quiet $(UPGRADE) -o requirements.lock

clean: ## remove what was made, except .venv
	@rm -rf _build book/notebooks book/_vendor .pytest_cache .hypothesis
