# Two commands for a fresh machine: `make demo` and `make test`. Both create .venv on their first run and reuse it.

PYTHON ?= python3
PY := .venv/bin/python
# The model of the demo; the .data file has the class names and anchors of the weights.
DATA ?= data/mask.data
WEIGHTS ?= modelzoo/mask-352.pth
# Parallel test processes.
JOBS ?= auto

.PHONY: demo test test-fast lint clean

demo: .venv/installed
	$(PY) test.py --data "$(DATA)" --weights "$(WEIGHTS)" --img img

test: lint
	$(PY) -m pytest -n "$(JOBS)" --dist loadfile
	if command -v nvidia-smi > /dev/null; then $(PY) -m pytest --gpu; fi

test-fast: lint
	$(PY) -m pytest -n "$(JOBS)" --dist loadfile -m "not slow" -q

lint: .venv/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing the packages of requirements.txt into .venv; PyTorch is large, so this takes minutes."
	$(PY) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-dev: requirements-dev.txt requirements-export.txt .venv/installed
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
