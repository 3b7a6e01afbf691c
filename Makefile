# `make demo` and `make test` set everything up in .venv first; no root, nothing outside this folder but the caches of pip and YoWASP.
# Another Python: `make test PYTHON=/path/to/python3.11`. Your own pip configuration (index, wheels, proxy) is used as it is.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A test file's neighbours share compiled designs, so each process takes a run of tests, and what is left over in the end.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test lint slow prove prove-fast doctor setup clean
.DEFAULT_GOAL := test
.NOTPARALLEL:

demo: doctor
	$(BIN)/python -m examples.demo

# The last line is pytest's summary.
test: doctor lint
	$(BIN)/python -m pytest $(PARALLEL)

# Everything that takes long: seeded faults, long random runs, whole networks on RTL.
slow: $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow"

# All proofs and the mutants that they must refute; the last line is JSON.
prove: $(STAMP)
	$(BIN)/python -m sim.prove

prove-fast: $(STAMP)
	$(BIN)/python -m sim.prove --fast

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright --pythonpath $(BIN)/python

doctor: $(STAMP)
	$(BIN)/shiftforge doctor

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "make: Python 3.11 or newer is needed; name yours with PYTHON=..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: Python must be 3.11 or newer, not $$("$(PYTHON)" -V); name another with PYTHON=..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv module: 'apt install python3-venv', or name another with PYTHON=..." >&2; exit 2; }
	@echo "Setting up .venv, a few minutes: about 450 MB to download with a CPU build of torch, which your pip configuration decides;"
	@echo "PyPI's own torch for Linux brings CUDA and makes it several GB (then: PIP_EXTRA_INDEX_URL of a CPU wheel index)."
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[train,speech,onnx,safetensors,dev]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
