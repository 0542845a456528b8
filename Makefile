# Two commands matter: `make demo` and `make test`. Each sets up everything it needs in .venv by itself.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -q
NATIVE := $(shell find device_runtime/native -name '*.c' -o -name '*.h')
BENCH := build/bench
LIB := device_runtime/gossamer_runtime/_lib/.built

.PHONY: demo test test-slow lint types native cross fuzz bench clean

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

# Gossamer beside its peers, with the numbers to reach; rows and plots go to build/bench. The first run makes the models.
# Rows are complete whatever falls short: a table ends with 1 where outputs disagree or an engine fails.
bench: $(VENV)/.bench $(LIB)
	@mkdir -p $(BENCH)
	$(PY) -m tools.bench native --json $(BENCH)/native-int8.json --plot $(BENCH)/native-int8.png
	$(PY) -m tools.bench native --models mobilenet_v1 --precisions f32 --pattern unstructured \
	  --json $(BENCH)/native-f32.json --plot $(BENCH)/native-f32.png
	$(PY) -m tools.bench scaling --json $(BENCH)/scaling.json --plot $(BENCH)/scaling.png
	$(PY) -m tools.footprint --json $(BENCH)/footprint.json
ifneq ($(wildcard tools/bench/wasm.py),)
	$(PY) -m tools.bench wasm --json $(BENCH)/wasm.json
endif
ifneq ($(wildcard tools/bench/arm.py),)
	$(PY) -m tools.bench arm --json $(BENCH)/arm.json
endif

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

$(VENV)/.bench: $(VENV)/.runtime pyproject.toml
	@echo "Setting up gossamer with torch and the engines that the benchmark times ..."
	$(PIP) -e '.[torch,bench]'
	@touch $@

clean:
	rm -rf build out device_runtime/gossamer_runtime/_lib
