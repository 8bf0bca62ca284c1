# One command per need, the same on a laptop and in CI. Each makes the virtual environment that it uses below .venv/
# and needs Python >= 3.11, git, make, bash and pip's index, nothing else; a change of setup.cfg or pyproject.toml
# makes the environments anew. Checks and tests run against the built wheel, never against the clone itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
SEEDS ?= 50
CUTS ?= 2000
ROUNDS ?= 200
WORKERS ?= 2
BENCH ?=
DEMO_SCALE ?=
DOCKER ?= docker
VERSION := $(shell sed -n 's/^version = //p' setup.cfg)

# The first that runs, is new enough and can make environments; a name on PATH alone says nothing of the three.
INTERPRETER := $(shell for name in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$name && break; done)

EXTRAS_checks := rocksdb,demo
EXTRAS_demo := demo
EXTRAS_scale := rocksdb
EXTRAS_bench := rocksdb
GROUPS_checks := --group lint --group test
GROUPS_scale := --group plots
GROUPS_bench := --group bench

CHECKS := .venv/checks/bin
PYTEST := RINGHOLD_TEST_INSTALLED=1 $(CHECKS)/pytest --confcutdir=tests
# Tests that use one processor each, side by side; the others start processes of their own, or look at the clock.
APART := tests/property tests/unit tests/test_tidy.py
SCRIPTS = $(shell find tests benchmarks scripts -name '*.py')

# Builds the wheel from nothing (setuptools would ship what an earlier build left in build/lib).
build_wheel = rm -rf build/lib build/bdist.* build/wheel/$(1) && \
	.venv/$(1)/bin/python -m pip wheel -q --no-deps --no-build-isolation --wheel-dir build/wheel/$(1) .
reinstall = $(call build_wheel,$(1)) && \
	.venv/$(1)/bin/python -m pip install -q --no-deps --force-reinstall build/wheel/$(1)/*.whl

.PHONY: help
help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

.venv/%/ready: setup.cfg pyproject.toml
	@test -n "$(INTERPRETER)" || { echo "Ringhold needs Python 3.11 or newer with its venv module (Debian: apt install" \
		"python3-venv); neither $(PYTHON) nor python3.14 to python3.11 on the PATH is. Name one: make PYTHON=..." >&2; exit 1; }
	rm -rf .venv/$*
	$(INTERPRETER) -m venv .venv/$*
	.venv/$*/bin/python -m pip install -q --upgrade pip setuptools
	$(call build_wheel,$*)
	.venv/$*/bin/python -m pip install -q $(GROUPS_$*) "$$(echo build/wheel/$*/*.whl)[$(EXTRAS_$*)]"
	touch $@

.PHONY: installed
installed: .venv/checks/ready
	$(call reinstall,checks)

.PHONY: demo
demo: .venv/demo/ready ## Three nodes on this machine with a real data set; Ctrl-C stops them.
	$(call reinstall,demo)
	.venv/demo/bin/python scripts/demo.py

.PHONY: demo-scale
demo-scale: .venv/scale/ready ## From 1 node to 7 and back to 3 under load, with a picture (make demo-scale DEMO_SCALE="--help").
	$(call reinstall,scale)
	.venv/scale/bin/python -m scripts.demo_scale $(DEMO_SCALE)

.PHONY: test
test: lint types layers ## Lint, types, layers and every test but the long ones, against the built wheel.
	$(PYTEST) --numprocesses=$(WORKERS) $(APART)
	$(PYTEST) tests $(APART:%=--ignore=%)

.PHONY: test-long
test-long: installed ## The tests marked `long`, properties with more examples, and 300 seeds of the simulator.
	$(PYTEST) -m long tests
	$(PYTEST) --hypothesis-profile=long --timeout=900 tests/property
	$(PYTEST) --seeds=300 tests/simulation/test_seeds.py

.PHONY: lint
lint: .venv/checks/ready proto-check ## Style of Python (ruff) and of the contract (buf); generated code is fresh.
	$(CHECKS)/ruff check .
	$(CHECKS)/ruff format --check .
	$(CHECKS)/buf lint

.PHONY: types
types: installed ## mypy --strict over the installed package, tests, benchmarks and scripts.
	$(CHECKS)/mypy --strict -p ringhold
	MYPYPATH=tests $(CHECKS)/mypy --strict --explicit-package-bases $(SCRIPTS)

.PHONY: layers
layers: installed ## The import rules between the layers.
	$(CHECKS)/lint-imports

.PHONY: sim
sim: installed ## The simulator over the first SEEDS seeds (make sim SEEDS=300).
	$(PYTEST) --seeds=$(SEEDS) tests/simulation

.PHONY: sim-faults
sim-faults: installed ## Plant each known bug; print the first seed of the simulator that finds it.
	cd tests && ../$(CHECKS)/python -m simulation faults

.PHONY: power
power: installed ## Cut the power on recordings of both engines: CUTS times on each (make power CUTS=20000).
	cd tests && ../$(CHECKS)/python -m power --cuts $(CUTS)

.PHONY: durability
durability: installed ## Kill nodes under load and check every acknowledged write: ROUNDS rounds on each engine.
	cd tests && ../$(CHECKS)/python -m chaos.durability --engine sqlite --rounds $(ROUNDS)
	cd tests && ../$(CHECKS)/python -m chaos.durability --engine rocksdb --rounds $(ROUNDS)

.PHONY: bench
bench: .venv/bench/ready ## All tables of the benchmarks; or what BENCH says (make bench BENCH="unary --quick").
	@command -v h2load >/dev/null || { echo "the benchmarks need h2load: run make system-tools" >&2; exit 1; }
	$(call reinstall,bench)
	.venv/bench/bin/python -m benchmarks $(BENCH)

.PHONY: proto
proto: ## Write the generated protobuf and gRPC stubs.
	$(INTERPRETER) scripts/proto.py

.PHONY: proto-check
proto-check: ## Fail if a generated stub is stale.
	$(INTERPRETER) scripts/proto.py --check

.PHONY: docs
docs: installed ## Check the links of the documentation and run the examples of the docstrings.
	$(PYTEST) tests/test_tidy.py -k "link or named or examples"

.PHONY: image
image: ## Build the container image ringhold:VERSION.
	$(DOCKER) build --tag ringhold:$(VERSION) .

.PHONY: system-tools
system-tools: ## Install what only the benchmarks need (Debian, Ubuntu): h2load, valgrind; etcd and Redis to compare with.
	@{ command -v h2load && command -v etcd && command -v redis-server && command -v valgrind; } >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then run=; else run="sudo -n"; fi; \
		$$run apt-get update -qq && $$run apt-get install -y -qq nghttp2-client etcd-server redis-server valgrind; }

.PHONY: power-tools
power-tools: ## Install what the tests of power cuts need (Debian, Ubuntu): a C compiler. Without, they are skipped.
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then run=; else run="sudo -n"; fi; \
		$$run apt-get update -qq && $$run apt-get install -y -qq gcc libc6-dev; }

.PHONY: clean
clean: ## Remove environments, builds and caches.
	rm -rf .venv .venv-proto build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
