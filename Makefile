# Two commands for a fresh machine: `make demo` and `make test`. Both create .venv on their first run and reuse it.

PYTHON ?= python3
PY := .venv/bin/python
# The model of the demo; the .data file has the class names and anchors of the weights.
DATA ?= data/mask.data
WEIGHTS ?= modelzoo/mask-352.pth
# Port of the browser page, and the files of its runtime: WebAssembly, and WebGPU, which is loaded only if it is chosen.
PORT ?= 8000
RUNTIME := ort.wasm.bundle.min.mjs ort-wasm-simd-threaded.wasm ort.webgpu.bundle.min.mjs ort-wasm-simd-threaded.asyncify.wasm
# Parallel test processes.
JOBS ?= auto

.PHONY: demo test test-fast web lint clean

demo: .venv/installed
	$(PY) test.py --data "$(DATA)" --weights "$(WEIGHTS)" --img img

test: lint
	$(PY) -m pytest -n "$(JOBS)" --dist loadfile --no-loadscope-reorder
	if command -v nvidia-smi > /dev/null; then $(PY) -m pytest --gpu; fi

test-fast: lint
	$(PY) -m pytest -n "$(JOBS)" --dist loadfile --no-loadscope-reorder -m "not slow" -q

# The page with the model of the demo, on http://localhost:8000.
web: web/dist/assembled
	$(PY) pytorch2onnx.py $(if $(filter command line,$(origin DATA)),--data "$(DATA)") --weights "$(WEIGHTS)" \
		--output web/dist/model.onnx
	@echo "Open http://localhost:$(PORT); Ctrl-C stops the server."
	$(PY) -m http.server --bind 127.0.0.1 --directory web/dist "$(PORT)"

web/dist/assembled: $(wildcard web/*.html web/*.css web/*.js) web/package.json | .venv/installed-export
	npm install --prefix web --omit=dev --no-package-lock --no-audit --no-fund
	mkdir -p web/dist
	cp web/*.html web/*.css web/*.js web/dist/
	cp $(addprefix web/node_modules/onnxruntime-web/dist/,$(RUNTIME)) web/dist/
	@touch $@

lint: .venv/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

clean:
	rm -rf .venv runs web/dist web/node_modules .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing the packages of requirements.txt into .venv; PyTorch is large, so this takes minutes."
	$(PY) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-export: requirements-export.txt .venv/installed
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-export.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt requirements-export.txt .venv/installed
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
