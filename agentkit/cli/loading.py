"""What several commands need: tools named as `module:object`, JSON from a file or stdin."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.messages import ToolSpec
from agentkit.tools.base import Tool


def load_tools(references: Sequence[str]) -> list[Tool]:
    """Import tools by name. The current folder is looked in first.

    Raises:
        ConfigurationError: if a reference is malformed, cannot be imported, or is no tool.
    """
    return [_load_tool(reference) for reference in references]


def _load_tool(reference: str) -> Tool:
    module_name, separator, attribute = reference.partition(":")
    if not (module_name and separator and attribute):
        raise ConfigurationError(
            f"--tool {reference!r} must be module:object, for instance examples.weather:lookup"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"--tool {reference!r}: cannot import {module_name} ({error})") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, Tool):
        tools = [name for name, value in vars(module).items() if isinstance(value, Tool)]
        raise ConfigurationError(
            f"--tool {reference!r}: {attribute} is not a tool of {module_name}; its tools are {', '.join(tools) or 'none'}"
        )
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file, or stdin for `-`.

    Raises:
        ConfigurationError: if there is no such file, or it is not JSON.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON: {error}") from error


def read_tool_specs(path: Path | None) -> list[ToolSpec]:
    """Read tools from JSON: the plain form, or the one with `"type": "function"` around it.

    Raises:
        ConfigurationError: if an item is not a tool.
    """
    if path is None:
        return []
    items = read_json(path)
    if not isinstance(items, list):
        raise ConfigurationError(f"{path} must hold a list of tools, got {type(items).__name__}")
    return [_tool_spec(path, number, item) for number, item in enumerate(items, start=1)]


def _tool_spec(path: Path, number: int, item: Any) -> ToolSpec:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ConfigurationError(f'{path}: tool {number} must be an object with a string "name"')
    parameters = item.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, dict):
        raise ConfigurationError(f'{path}: "parameters" of tool {number} must be a JSON Schema object')
    return ToolSpec(name=item["name"], description=str(item.get("description", "")), parameters=parameters)
