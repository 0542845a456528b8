# Two commands matter: `make demo` and `make test`. Each sets up everything it needs in .venv by itself.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -q
NATIVE := $(shell find device_runtime/native -name '*.c' -o -name '*.h')
LIB := device_runtime/gossamer_runtime/_lib/.built

.PHONY: demo test test-slow lint types native cross fuzz clean

demo: $(VENV)/.demo $(LIB)
	$(PY) -m tools.demo

test: $(VENV)/.dev $(LIB) cross
	$(PY) -m pytest -n 2 -q -m "not slow"

# The slow tests; CI runs both.
test-slow: $(VENV)/.dev $(LIB) cross
	$(PY) -m pytest -n 2 -q -m slow

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

# The native core of this machine, and the other targets that the exactness tests run under emulation.
native: $(LIB)
cross: $(LIB) $(VENV)/.dev
	$(PY) -m tools.build_native --target all

fuzz: $(VENV)/.dev
	$(PY) -m tools.fuzz_native --seconds 60

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Gossamer needs Python 3.11 or later; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Compiles the core with zig cc from its PyPI wheel: no compiler and no root needed.
$(VENV)/.runtime: device_runtime/pyproject.toml device_runtime/hatch_build.py | $(VENV)/bin/python
	@echo "Setting up the runtime (downloads numpy and the build compiler once) ..."
	$(PIP) ziglang==0.17.1 -e ./device_runtime
	@touch $@

$(LIB): $(VENV)/.runtime $(NATIVE) device_runtime/build_native.py
	$(PY) -m tools.build_native --target host
	@touch $@

$(VENV)/.demo: $(VENV)/.runtime pyproject.toml
	@echo "Setting up gossamer ..."
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime pyproject.toml
	@echo "Setting up gossamer with torch, LiteRT, TVM and the test tools ..."
	$(PIP) -e '.[torch,tflite,tvm,demo,dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf build out device_runtime/gossamer_runtime/_lib
