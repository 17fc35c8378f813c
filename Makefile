# make demo    see FCR do its job on simulated people (installs no PyTorch)
# make test    run the tests (installs everything, PyTorch included)
# make check   format, lint, types, layers
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# A folder with real films, faces and a CT; the tests that use it are skipped without it.
REAL_DATA ?=

.PHONY: demo test check clean

demo: $(VENV)/.demo
	$(BIN)/fcr-edge demo

# One thread: several of them wait for each other longer than they work on a busy machine.
test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow" $(if $(REAL_DATA),--real-data=$(REAL_DATA))

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: FCR needs Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0] + ": run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[cpu,dicom,openvino,train,dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist demo-out
