# `make` lists the commands. Each sets up what it needs: .venv, or whatever
# the interpreter that PYTHON= names lacks.
STACK ?= openmmlab
PYTHON ?=

VENV := .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))
RUN := $(or $(PYTHON),$(VENV)/bin/python)
ENV := $(if $(PYTHON),--python $(PYTHON),--venv $(VENV))
FITS := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
# Two processes of one thread each: half the time on two cores. A file's tests
# stay together, since they share what is slow to make, in conftest's order.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo docs test test-all lint clean

help:
	@echo 'make setup     the environment ($(or $(PYTHON),$(VENV))); 15 minutes, once'
	@echo 'make demo      trains and tests both heads on synthetic shapes; 10 minutes'
	@echo 'make test      runs the tests; some minutes'
	@echo 'make test-all  runs the slow ones too; about an hour'
	@echo 'make docs      builds the site from docs/ into build/site'
	@echo 'make lint      checks the style'

# By the first interpreter that fits; if none does, python3 says so.
setup:
	@for python in $(PYTHON) python3 python3.12 python3.11 python3.10; do \
	    $$python -c '$(FITS)' 2>/dev/null && break; python=python3; \
	done; $$python tools/setup_env.py --stack $(STACK) $(ENV)

demo: setup
	@$(RUN) demo/run.py work_dirs/demo

docs: setup
	@$(RUN) docs/build.py

test: setup
	@echo '[test] some minutes on 2 cores'
	@$(PYTEST)

test-all: setup
	@echo '[test] the slow tests too, about an hour on 2 cores'
	@$(PYTEST) -m ''

lint: setup
	@$(RUN) -m ruff check .

clean:
	rm -rf build dist *.egg-info work_dirs data/shapes
