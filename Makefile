# make demo     renders the bundled avatar to demo.mp4
# make install  adds what nldf needs beside rendering, to train avatars of one's own
# make test     checks style and types, and runs the tests
# make docs     builds the documentation into site/
# All set everything up on a fresh machine: a virtual environment in .venv, torch, the package.
#
# Settings:  make test PYTHON=python3.12 TORCH=torch==2.9.0 VENV=/tmp/venv CUDAARCHS=native

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
TORCH ?= torch==2.13.0
# 80 carries PTX as well, so that these two run on every GPU from Ampere on; `make cuda` builds them all.
export CUDAARCHS ?= 80;90a
PYTEST_ARGS ?=
# Test processes: one a core, at most eight.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 8 ? 8 : n)))

IN_RANGE := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3.13 python3.14 python3 python; do \
	$$p -c '$(IN_RANGE)' 2>/dev/null && echo $$p && break; done)

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
BUILDS := building the kernels: a few minutes where nvcc is found (CUDAARCHS=native: for your GPU alone), else fewer
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
KERNELS := CMakeLists.txt pyproject.toml $(wildcard csrc/*.* csrc/*/*.* cmake/*)
SOURCES := $(shell find nldf_engine -type f -not -name '*.pyc' -not -name '*.so')
CPP := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
# An environment that `make test` has made holds the package as well: `make demo` uses it as it is.
INSTALLED = $(STAMPS)/$(if $(wildcard $(STAMPS)/develop),develop,package)

.PHONY: help demo install test docs thorough lint format gates bench cuda clean needs

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(INSTALLED)
	$(BIN)/nldf demo

# The package is there and stays as it is: pip adds what its extra names, and no kernel is built again.
install: $(INSTALLED)
	$(PIP) -c $(VENV)/constraints.txt 'nldf_engine[all]'
	@echo "source $(BIN)/activate    # then: nldf doctor"

# Whole files side by side, each with one thread: fixtures of a file are made once. The order is that of
# tests/conftest.py, long files first; xdist's own has those of few tests last, and trainings are among these.
test: lint
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Strict: a broken link or a page that stands nowhere is an error.
docs: $(STAMPS)/develop
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	echo "site/index.html; for its search: $(BIN)/python -m http.server -d site"

thorough: $(STAMPS)/develop
	$(BIN)/pytest -m thorough $(PYTEST_ARGS)

lint: $(STAMPS)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(STAMPS)/develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

# Every kernel for every architecture: no spill, no stack, no warning. Needs nvcc, but no GPU.
gates: $(STAMPS)/develop
	$(BIN)/python tests/gates.py -o docs/kernels-ptxas.md

bench: $(STAMPS)/develop
	$(BIN)/nldf bench

cuda: $(STAMPS)/develop
	env -u CUDAARCHS $(PIP) --force-reinstall --no-deps --config-settings=build-dir=build/cuda \
	  --config-settings=cmake.define.NLDF_CUDA=ON -e .
	$(BIN)/nldf doctor

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# What pip can't install. In CI, as root on Debian, it is installed; elsewhere the line says how.
needs:
	@missing=""
	export PATH="$$PATH:/usr/sbin:/sbin"
	command -v c++ g++ clang++ >/dev/null || missing="$$missing g++"
	if command -v ldconfig >/dev/null; then
	  ldconfig -p | grep -q 'libGL\.so\.1 ' || missing="$$missing libgl1"
	  ldconfig -p | grep -q 'libgthread-2\.0\.so\.0 ' || missing="$$missing libglib2.0-0"
	fi
	if [ -n "$$missing" ] && [ "$${CI:-}" = true ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing
	elif [ -n "$$missing" ]; then
	  echo "Missing on this machine:$$missing. To fix it: sudo apt-get install$$missing" >&2
	  exit 1
	fi
	if [ -z "$(PYTHON)" ]; then
	  echo "No Python 3.10 to 3.14 was found. To fix it: sudo apt-get install python3-venv python3-dev," \
	    "or name one: make PYTHON=/path/to/python3.11" >&2
	  exit 1
	fi
	$(PYTHON) -c '$(IN_RANGE)' || { echo "$(PYTHON) is not Python 3.10 to 3.14" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || {
	  echo "$(PYTHON) can't make virtual environments. To fix it: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(
	sysconfig.get_path("include"), "Python.h")))' || {
	  echo "$(PYTHON) lacks its header files. To fix it: sudo apt-get install python3-dev" >&2; exit 1; }

# torch comes first and by itself, so that no other package chooses its version or its build.
$(STAMPS)/torch: | needs
	$(PYTHON) -m venv $(VENV)
	$(PIP) 'pip>=23.2'
	$(PIP) '$(TORCH)'
	mkdir -p $(STAMPS)
	touch $@

# The constraints without torch's pin: which torch there is was settled above.
$(VENV)/constraints.txt: constraints.txt $(STAMPS)/torch
	grep -v '^torch==' $< > $@

$(STAMPS)/package: $(VENV)/constraints.txt $(KERNELS) $(SOURCES)
	@echo "$(BUILDS)"
	$(PIP) -c $< .
	touch $@

# Editable, so that the tests and the tools see one and the same source; only kernels need building again.
$(STAMPS)/develop: $(VENV)/constraints.txt $(KERNELS)
	@echo "$(BUILDS)"
	$(PIP) -c $< -C cmake.define.NLDF_WERROR=ON -e '.[all,dev,docs]'
	touch $@
