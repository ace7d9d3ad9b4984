# Needs only Python (>= 3.11) and make: every target installs what it uses into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
# Another package index for torch alone, for example https://download.pytorch.org/whl/cpu: builds without CUDA.
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.ready-docs
RELEASE_READY := $(VENV)/.ready-release
OFFLINE := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false OMP_WAIT_POLICY=passive
# Two processes, each of which makes its own fixtures: half the time of one on two cores. More processes gain little.
TESTS := $(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile

.PHONY: install demo test test-all transformers-suite checks lint docs package benchmark benchmark-all clean

install: $(READY)

$(READY): setup.py constraints.txt
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, found ' + sys.version; sys.exit(0)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all]"
	touch $(READY)

$(DOCS_READY): $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $(DOCS_READY)

$(RELEASE_READY): $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[release]"
	touch $(RELEASE_READY)

demo: $(READY)
	$(OFFLINE) $(BIN)/onesearch demo --run runs/demo --resume

test: checks
	$(TESTS)

test-all: checks
	$(TESTS) -m ""

# transformers' own tests on our models, from the source distribution of the installed release.
transformers-suite: $(READY)
	mkdir -p build
	$(BIN)/pip download --quiet --no-deps --no-binary :all: --no-build-isolation --dest build transformers==$$($(BIN)/python -c "import transformers; print(transformers.__version__)")
	tar -xzf build/transformers-*.tar.gz -C build
	$(OFFLINE) OMP_NUM_THREADS=1 TRANSFORMERS_SOURCE=$$(ls -d build/transformers-*/) $(BIN)/python -m pytest -m slow tests/modeling_onesearch/test_transformers_suite.py

# Seconds once mypy has its cache; half a minute before.
checks: $(READY)
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

lint: checks
	$(BIN)/ruff format --check .

# The pages and the API reference as a web site in build/site. A warning is an error.
docs: $(DOCS_READY)
	$(BIN)/python docs/draw_architecture.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Source distribution and wheel in dist/, checked as the package index would.
package: $(RELEASE_READY)
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

# Under two minutes on an idle core; benchmark-all runs every size, up to 10,000,000 items (an hour, 10 GB of memory).
benchmark: $(READY)
	$(OFFLINE) $(BIN)/python -m pytest tests/benchmarks -m "" -q -s

benchmark-all: $(READY)
	BENCHMARKS=all $(OFFLINE) $(BIN)/python -m pytest tests/benchmarks -m "" -q -s

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
