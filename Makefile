# SPDX-License-Identifier: Apache-2.0
# Needs only make, Python >= 3.9 with venv, and a package index that pip reaches.
#
#   make demo         a tour against a real etcd
#   make test         the test suite           (ARGS="-k watch -x" are given to pytest, JOBS=0: one process)
#   make lint         formatting, rules, types
#   make test-matrix  unit tests: oldest and newest CPython, PyPy, lowest dependencies
#   make etcds        fetch other etcd versions for the live tests
#   make faults       long runs under faults
#   make fidelity     the etcd in memory against a real one, 5,000 requests for each of SEEDS=4
#   make sim          the simulation                (SEEDS=200, ARGS="--first 200")
#   make sim-planted  how soon it finds bugs planted into the client
#   make fuzz         coverage-guided fuzzing    (SECONDS=60 for each target, ARGS="connection lies")
#   make bench        the benchmarks          (ARGS=--quick: a short run)
#   make bench-peers  install the clients that benchmarks compare with
#
# PYTHON=... chooses the interpreter of the virtual environment, VENV=... its place.

VENV ?= .venv
ARGS ?=
JOBS ?= 2
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 pypy3; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null && echo $$p && break; done)

FRESH = test -n "$(PYTHON)" || { echo "no Python >= 3.9 with the modules venv and ensurepip found" >&2; exit 1; }; \
	"$(PYTHON)" tools/fresh_venv.py $(VENV)

.PHONY: help demo test lint test-matrix etcds faults fidelity sim sim-planted fuzz bench bench-peers clean
help:
	@sed -n 's/^#   //p' Makefile

# One stamp per set of packages. Each is made anew when the project's metadata changed.
$(VENV)/.run: pyproject.toml tools/fresh_venv.py
	@$(FRESH)
	@touch $@
$(VENV)/.test: pyproject.toml tools/fresh_venv.py
	@$(FRESH) --group test
	@touch $@ $(VENV)/.run
$(VENV)/.lint: pyproject.toml tools/fresh_venv.py
	@$(FRESH) --group lint
	@touch $@ $(VENV)/.test $(VENV)/.run

demo: $(VENV)/.run
	@$(VENV)/bin/python examples/tour.py

test: $(VENV)/.test
	@$(VENV)/bin/python -m pytest -m "not faults" -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.lint
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy --strict --config-file= tests/typing
	@$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

test-matrix: $(VENV)/.test
	@$(VENV)/bin/python tools/matrix.py $(ARGS)

etcds: $(VENV)/.run
	@$(VENV)/bin/python tools/get_etcds.py $(ARGS)

faults: $(VENV)/.test
	@$(VENV)/bin/python -m pytest -m faults $(ARGS)

fidelity: $(VENV)/.test
	@$(VENV)/bin/python -m pytest -s tests/memory/test_fidelity.py --fidelity-requests=5000 --fidelity-seeds=$(or $(SEEDS),4) $(ARGS)

sim: $(VENV)/.test
	@$(VENV)/bin/python -m tests.sim --seeds $(or $(SEEDS),200) --jobs $(JOBS) $(ARGS)

sim-planted: $(VENV)/.test
	@$(VENV)/bin/python -m tests.sim --planted --seeds $(or $(SEEDS),500) --jobs $(JOBS) $(ARGS)

$(VENV)/.fuzz: pyproject.toml tools/fresh_venv.py
	@$(FRESH) --group fuzz
	@touch $@

SECONDS ?= 60
fuzz: $(VENV)/.fuzz
	@$(VENV)/bin/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

bench: $(VENV)/.test
	@$(VENV)/bin/python benchmarks/run_all.py $(ARGS)

bench-peers: $(VENV)/.test
	@$(VENV)/bin/python benchmarks/get_peers.py $(ARGS)

clean:
	rm -rf $(VENV) .cache/matrix dist
