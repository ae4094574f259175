"""The public face: every name is there, and importing it costs almost nothing."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import agentkit

ROOT = Path(__file__).parent.parent
TENSOR_LIBRARIES = {"torch", "transformers", "tokenizers", "safetensors", "gguf", "llguidance"}
IMPORT_CPU_SECONDS = 0.5

RUN_AND_REPORT = """
import json, sys, time
began = time.process_time()
{code}
print(json.dumps({{"seconds": time.process_time() - began, "modules": sorted(sys.modules)}}), file=sys.stderr)
"""

RUN_COMMAND = """
from agentkit.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert ended.code == 0, ended.code
"""


def run_and_report(code: str) -> tuple[float, set[str]]:
    """Run code in a process of its own; return the seconds of CPU that it took and the packages it loaded."""
    finished = subprocess.run(
        [sys.executable, "-c", RUN_AND_REPORT.format(code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stderr.splitlines()[-1])
    return report["seconds"], {module.partition(".")[0] for module in report["modules"]}


def names_for_type_checkers() -> dict[str, str]:
    """Each name that `agentkit/__init__.py` imports for type checkers, and the module it comes from."""
    tree = ast.parse(Path(agentkit.__file__).read_text())
    block = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {alias.asname or "": node.module or "" for node in imports for alias in node.names}


def test_what_type_checkers_see_is_what_is_public():
    assert sorted(names_for_type_checkers()) == agentkit.__all__


@pytest.mark.parametrize(("name", "home"), names_for_type_checkers().items())
def test_a_public_name_is_that_of_its_module(name: str, home: str):
    assert getattr(agentkit, name) is getattr(importlib.import_module(home), name)


def test_every_public_name_is_listed_and_can_be_imported_with_a_star():
    namespace: dict[str, object] = {}
    exec("from agentkit import *", namespace)
    assert set(agentkit.__all__) <= set(namespace)
    assert {*agentkit.__all__, "__version__"} == set(dir(agentkit))


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'agentkit' has no attribute 'Agnet'"):
        _ = agentkit.Agnet


def test_importing_agentkit_is_quick_and_loads_no_tensor_library():
    seconds, packages = run_and_report("import agentkit")
    assert seconds < IMPORT_CPU_SECONDS
    assert not packages & {*TENSOR_LIBRARIES, "pydantic"}


@pytest.mark.parametrize(
    "name", ["Agent", "Pipeline", "Policy", "SQLiteStore", "Session", "code_interpreter", "tool"]
)
def test_a_name_that_runs_no_model_loads_no_torch(name: str):
    _, packages = run_and_report(f"from agentkit import {name}")
    assert not packages & {"torch", "transformers"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["policy", "check", "examples/policies/default.yaml"], ["models"]],
    ids=" ".join,
)
def test_a_command_that_runs_no_model_loads_no_torch(arguments: list[str]):
    _, packages = run_and_report(RUN_COMMAND.format(arguments=arguments))
    assert not packages & {"torch", "transformers"}


def test_an_agent_on_another_engine_needs_no_torch():
    _, packages = run_and_report(
        "from agentkit import Agent\n"
        "from agentkit.testing import ScriptedEngine\n"
        "assert Agent(ScriptedEngine(['Hello.'])).run_sync('Hi').output == 'Hello.'"
    )
    assert not packages & {"torch", "transformers"}
