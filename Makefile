# `make` lists the commands. Each sets up what it needs: a venv for the stack,
# or, beside what the interpreter of PYTHON= has, the tools of the tests.
STACK ?= openmmlab
PYTHON ?=

VENV := .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))
RUN := $(or $(PYTHON),$(VENV)/bin/python)
READY := $(if $(PYTHON),build/ready$(subst /,_,$(PYTHON)),$(VENV)/ready)
PIP := $(RUN) -m pip install --disable-pip-version-check
PINS := requirements/$(STACK).txt
# Pythons for which the stack's torch and mmcv exist, the first choice first.
VERSIONS_openmmlab := 3.11 3.12 3.10 3.13
VERSIONS_lowest := 3.8
VERSIONS_classic := 3.10 3.11 3.9 3.8
VERSIONS_newest := 3.13 3.12
VERSIONS_onedl := 3.12 3.11 3.10
VERSIONS := $(or $(VERSIONS_$(STACK)),$(error STACK=$(STACK) is none of \
    $(patsubst VERSIONS_%,%,$(filter VERSIONS_%,$(.VARIABLES)))))
FITS := import sys; sys.exit('%d.%d' % sys.version_info[:2] not in sys.argv)
# Two processes of one thread each: half the time on two cores. A file's tests
# stay together, since they share what is slow to make, in conftest's order.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile \
    $(if $(filter-out lowest,$(STACK)),--no-loadscope-reorder)

.PHONY: help setup demo docs test test-all lint clean

help:
	@echo 'make setup     the environment ($(or $(PYTHON),$(VENV))); 15 minutes, once'
	@echo 'make demo      trains and tests both heads on synthetic shapes; 10 minutes'
	@echo 'make test      runs the tests; some minutes'
	@echo 'make test-all  runs the slow ones too; about an hour'
	@echo 'make docs      builds the site from docs/ into build/site'
	@echo 'make lint      checks the style'
	@echo 'STACK=NAME: $(basename $(notdir $(filter-out %/dev.txt,$(wildcard requirements/*.txt))))'

setup: $(READY)

# Nothing in a folder that is there already is removed.
$(VENV)/ready: $(PINS) requirements/dev.txt setup.py
	@for python in $(VENV)/bin/python python3 $(foreach v,$(VERSIONS),python$(v) \
	        $(wildcard $(HOME)/.pyenv/versions/$(v).*/bin/python)); do \
	    $$python -c "$(FITS)" $(VERSIONS) 2>/dev/null && break; python=; \
	done; \
	test ! -x $(RUN) -o "$$python" = $(RUN) || python=; \
	test "$$python" || { echo '[set-up] STACK=$(STACK) needs Python $(VERSIONS)' \
	    '(STACK=classic: 3.8 to 3.11), also in $(VENV) if that is there'; exit 1; }; \
	test -x $(RUN) || $$python -m venv $(VENV); \
	$(RUN) -m pip --version >/dev/null 2>&1 || $(RUN) -m ensurepip
	@echo '[set-up] torch and the build tools: a minute, several with CUDA'
	$(PIP) -q -c $(PINS) torch numpy setuptools wheel ninja packaging
	@echo "[set-up] the frameworks: mmcv's operators compile for 8 to 20 minutes, once"
	@# The setup.py of mmcv stops on Python 3.13 without that folder.
	PYTHONPATH="$(CURDIR)/requirements/python313" $(PIP) \
	    $(if $(filter-out openmmlab,$(STACK)),--no-cache-dir) --no-build-isolation -r $(PINS)
	@echo '[set-up] the tools of the tests, and mmiformer: a minute'
	$(PIP) -q -c $(PINS) -r requirements/dev.txt
	$(PIP) -q --no-build-isolation --no-deps -e .
	@# mmdet and mmseg refuse mmcv 2.2, though they run with it.
	@$(if $(filter newest,$(STACK)),sed -i -E "s/^(mmcv_maximum_version|MMCV_MAX) = .*/\1 = '2.3.0'/" \
	    $(VENV)/lib/python*/site-packages/mmdet/__init__.py $(VENV)/lib/python*/site-packages/mmseg/__init__.py)
	@# Only where torchvision was built for another torch, see the file.
	@$(RUN) -c 'import torchvision' 2>&1 | grep -q 'operator torchvision::' && \
	    for site in $(VENV)/lib/python*/site-packages; do \
	        cp requirements/torchvision_finder.py $$site && \
	        echo 'import torchvision_finder' > $$site/torchvision_finder.pth; done || true
	@$(RUN) tools/env.py
	@touch $@

build/ready%: requirements/dev.txt setup.py
	@mkdir -p build
	@$(RUN) -m pip list --format=freeze > build/installed.txt
	@echo '[set-up] the tools of the tests, and mmiformer; what $(PYTHON) has stays'
	$(PIP) -c build/installed.txt -r requirements/dev.txt
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

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
	rm -rf build dist *.egg-info
