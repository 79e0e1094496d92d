# Two commands do all their own set-up:  make demo   make test
# They use .venv, or the interpreter that PYTHON= names.
STACK ?= openmmlab
PYTHON ?=

VENV := .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))
RUN := $(if $(PYTHON),$(PYTHON),$(VENV)/bin/python)
ENV := $(if $(PYTHON),--python $(PYTHON),--venv $(VENV))
DEMO := work_dirs/demo
# Two processes of one thread each: half the time on two cores. A file's tests
# stay together, since they share what is slow to make, in the order of conftest.
PYTEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-all lint clean

help:
	@echo 'make demo      train and test both heads on the embedded data, draw pictures'
	@echo 'make test      run the tests'
	@echo 'make test-all  run the slow ones too'
	@echo 'make lint      check the style'
	@echo 'make setup     only the environment ($(if $(PYTHON),$(PYTHON),$(VENV)))'

# The first interpreter that fits makes the environment; where none fits, the
# last one found says so.
setup:
	@for python in $(PYTHON) python3 python3.11 python3.12 python3.10; do \
	    $$python -c '' 2>/dev/null || continue; found=$$python; \
	    $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	        && break; \
	done; \
	if [ -z "$$found" ]; then \
	    echo '[set-up] there is no Python: install 3.10, 3.11 or 3.12 (apt-get install python3 python3-venv)'; \
	    exit 1; \
	fi; \
	$$found tools/setup_env.py --stack $(STACK) $(ENV)

demo: setup
	@$(RUN) tools/demo.py $(DEMO)

test: setup
	@echo '[test] the suite takes some minutes on 2 cores'
	@$(PYTEST)

test-all: setup
	@echo '[test] the whole suite, slow tests included'
	@$(PYTEST) -m ''

lint: setup
	@echo '[lint] ruff, some seconds'
	@$(RUN) -m ruff check .

clean:
	rm -rf build dist *.egg-info work_dirs data/shapes
