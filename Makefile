# Two commands matter: `make demo` and `make test`. Each sets up everything it needs in .venv by itself.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -q
NATIVE := $(shell find device_runtime/native -name '*.c' -o -name '*.h')
BENCH := build/bench
BENCHES := bench-native bench-native-f32 bench-scaling bench-footprint \
  $(patsubst tools/bench/%.py,bench-%,$(wildcard tools/bench/wasm.py tools/bench/arm.py))
LIB := device_runtime/gossamer_runtime/_lib/.built

# One after another even under -j: the benchmarks would disturb each other.
.NOTPARALLEL:
.PHONY: demo demo-fleet test test-slow lint types native cross fuzz bench $(BENCHES) clean

demo: $(VENV)/.demo $(LIB)
	$(PY) -m tools.demo

# Services, a device here and an emulated ARM one, from a client's call to profiles that come back.
demo-fleet: $(VENV)/.fleet $(LIB)
	$(PY) -m tools.demo_fleet

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
# A part ends with 1 where outputs disagree or an engine fails: `make -k bench` goes on to the others.
bench: $(BENCHES)

$(BENCHES): $(VENV)/.bench $(LIB) | $(BENCH)

$(BENCH):
	@mkdir -p $@

bench-native:
	$(PY) -m tools.bench native --json $(BENCH)/native-int8.json --plot $(BENCH)/native-int8.png

bench-native-f32:
	$(PY) -m tools.bench native --models mobilenet_v1 --precisions f32 --pattern unstructured \
	  --json $(BENCH)/native-f32.json --plot $(BENCH)/native-f32.png

bench-scaling:
	$(PY) -m tools.bench scaling --json $(BENCH)/scaling.json --plot $(BENCH)/scaling.png

bench-footprint:
	$(PY) -m tools.footprint --json $(BENCH)/footprint.json

bench-wasm bench-arm: bench-%:
	$(PY) -m tools.bench $* --json $(BENCH)/$*.json

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

$(VENV)/.fleet: $(VENV)/.demo services/pyproject.toml
	@echo "Setting up the services, their client and the device agent ..."
	$(PIP) -e '.[demo,client]' -e './device_runtime[agent]' -e ./services
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime pyproject.toml services/pyproject.toml
	@echo "Setting up gossamer with torch, LiteRT, TVM and the test tools ..."
	$(PIP) -e '.[torch,tflite,tvm,person,demo,dev]' -e './services[s3,postgres,ray,test]'
	@touch $@ $(VENV)/.demo $(VENV)/.fleet

$(VENV)/.bench: $(VENV)/.runtime pyproject.toml
	@echo "Setting up gossamer with torch and the engines that the benchmark times ..."
	$(PIP) -e '.[torch,bench]'
	@touch $@

clean:
	rm -rf build out device_runtime/gossamer_runtime/_lib
