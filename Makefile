# Needs only Python (>= 3.11) and make: every target installs what it uses into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OFFLINE := HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false OMP_WAIT_POLICY=passive

.PHONY: install demo test test-all lint benchmark benchmark-all clean

install: $(READY)

$(READY): setup.py constraints.txt
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, found ' + sys.version; sys.exit(0)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all]"
	touch $(READY)

demo: $(READY)
	$(OFFLINE) $(BIN)/onesearch demo --run runs/demo --resume

test: $(READY)
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests

test-all: $(READY)
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m ""

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Under two minutes on an idle core; benchmark-all runs every size, up to 10,000,000 items (an hour, 10 GB of memory).
benchmark: $(READY)
	$(OFFLINE) $(BIN)/python -m pytest tests/benchmarks -m "" -q -s

benchmark-all: $(READY)
	BENCHMARKS=all $(OFFLINE) $(BIN)/python -m pytest tests/benchmarks -m "" -q -s

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache
