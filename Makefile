# Two commands: `make run` (the main job on an example) and `make test`. Both set up what they need first.
#
#   make demo                             all ten example issues, each judged by a hidden test; fails below LEAST
#   make study                            the steering study on pocket, whole: writes docs/lab and configs/cells/pocket.yaml
#
#   make run ISSUE=stock                  another of the issues under examples/issues
#   make run MODEL=smollm2                another model (make demo and LEAST too): fetch it first, steergraph models fetch smollm2
#   make setup TORCH="torch==2.13.0 --index-url URL"
#                                         another torch build: what to hand to `pip install`; remembered in .venv
#   make setup PYTHON=python3.13          another interpreter (3.11 or newer)
#   make test WORKERS=8                   with more processes than two

PYTHON ?= python3
VENV ?= .venv
ISSUE ?= labels
MODEL ?= pocket
LEAST ?= 8
PYTEST_ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
TASKS := --tasks training.tasks:POCKET
STAMP := $(VENV)/.up-to-date
CHOSEN := $(VENV)/.torch
LOCKED_TORCH := $(shell grep '^torch==' constraints.txt)
TORCH ?= $(or $(filter-out locked,$(shell cat $(CHOSEN) 2>/dev/null)),$(LOCKED_TORCH))

.PHONY: help setup run run-unseen demo study sweep-pocket sweep-pocket-base test test-slow bench docs lint format wheel clean FORCE

help:
	@echo "make run | run-unseen | demo | study | test | test-slow | bench | docs | lint | format | wheel | setup | clean"

setup: $(STAMP)

# The chosen torch build; written only when it changes, so that the stamp goes stale only then.
$(CHOSEN): WANTED = $(if $(filter-out $(LOCKED_TORCH),$(TORCH)),$(TORCH),locked)
$(CHOSEN): FORCE
	@mkdir -p $(VENV)
	@echo '$(WANTED)' | cmp -s - $@ || echo '$(WANTED)' > $@

# torch goes first: left to the resolver, its newest and largest build would be fetched.
$(STAMP): pyproject.toml constraints.txt $(CHOSEN)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "steergraph needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12"; exit 2; }
	@echo "Setting up $(VENV): a minute or two, most of it torch."
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt $(foreach word,$(TORCH),'$(word)')
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev]'
	@touch $@

# The tests are the example's own: where no sandbox can be had, they may run with limits only.
run: setup
	$(BIN)/steergraph run --model $(MODEL) --repo examples/pantry.bundle --issue examples/issues/$(ISSUE).md \
		--test "python -m unittest tests.test_$(ISSUE)" --unsafe-tests

# The specialists without the code in view, each with its own vector. Nothing can be patched unseen, so exit code 1 (none
# found) is fine here.
run-unseen: setup
	$(BIN)/steergraph run --model $(MODEL) --repo examples/pantry.bundle --issue examples/issues/$(ISSUE).md \
		--retrieval off --max-repairs 0 || test $$? -eq 1

demo: setup
	$(BIN)/python -m steergraph.evals.example_issues --model $(MODEL) --least $(LEAST)

# What is there is gone on with: remove build/study to measure anew. The sweeps run side by side, a thread each; switching
# comes last, because it speaks with the cells that the sweep wrote.
study: setup
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 sweep-pocket sweep-pocket-base
	cp build/study/pocket/cells.yaml steergraph/configs/cells/pocket.yaml
	$(BIN)/steergraph lab switching --model pocket $(TASKS) --out build/study/switching --examples examples
	for name in pocket pocket-base; do for kind in md json; do \
		cp build/study/$$name/sweep.$$kind docs/lab/$$name-sweep.$$kind; done; done
	cp build/study/switching/switching.md build/study/switching/switching.json docs/lab/

sweep-pocket:
	$(BIN)/steergraph lab sweep --model pocket $(TASKS) --out build/study/pocket --maps docs/lab

sweep-pocket-base:
	$(BIN)/steergraph lab sweep --model pocket-base $(TASKS) --out build/study/pocket-base --maps docs/lab \
		--settings steergraph/configs/experiments/sweep_base.yaml

# Checkpoints may hold only plain data: LangGraph refuses anything else.
test test-slow: export LANGGRAPH_STRICT_MSGPACK := true

# One thread each for what computes, so that the workers do not stand in each other's way.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) $(PYTEST_ARGS)

test-slow: setup
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# Every script in benchmarks/ that takes --quick, at a size fit for two cores; the others need data and are run by hand.
bench: setup
	@for script in $$(grep -l __main__ $$(grep -le --quick benchmarks/*.py)); do \
		echo "== $$script --quick"; $(BIN)/python $$script --quick || exit 1; \
	done

# The site, into build/site; a warning is an error. It opens from disk, and nothing in it is fetched from elsewhere.
docs: export NO_MKDOCS_2_WARNING := 1
docs: setup
	$(BIN)/mkdocs build --quiet --strict

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
