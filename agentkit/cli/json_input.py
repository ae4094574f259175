"""JSON from a file or stdin, and the tools that it may hold. Errors say which file, and where in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentkit.cli.loading import check_file
from agentkit.cli.standard_input import read_stdin
from agentkit.errors import ConfigurationError
from agentkit.messages import ToolSpec


def parse_json(text: str, name: str) -> Any:
    """Read JSON; NaN and Infinity are none.

    Raises:
        ConfigurationError: naming `name` and the place.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if "\n" not in text else f"line {error.lineno}, column {error.colno}"
        wrong = error.msg[:1].lower() + error.msg[1:] if text.strip() else "it is empty"
        raise ConfigurationError(f"{name} is not JSON: {wrong} ({place})") from None
    except ValueError as error:
        raise ConfigurationError(f"{name} is not JSON: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{name} is nested too deeply") from None


def read_json(path: Path) -> Any:
    """Read a JSON file, or stdin for `-`.

    Raises:
        ConfigurationError: if there is no such file, or it is not JSON.
    """
    if str(path) == "-":
        return parse_json(read_stdin(), "stdin")
    check_file(path, "file", suffixes=(".json",))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from None
    return parse_json(text, str(path))


def read_tool_specs(path: Path) -> list[ToolSpec]:
    """Read tools from JSON: the plain form, or the one with `"type": "function"` around it.

    Raises:
        ConfigurationError: if an item is not a tool.
    """
    items = read_json(path)
    name = shown(path)
    if not isinstance(items, list):
        raise ConfigurationError(f"{name} must hold a list of tools, got {json_kind(items)}")
    return [_tool_spec(f"{name}: tool {number}", item) for number, item in enumerate(items, start=1)]


def unwrapped(item: Any) -> Any:
    """Return what `{"type": "function", "function": …}` holds; anything else as it is."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        return item["function"]
    return item


def shown(path: Path) -> str:
    """Return what errors call a file."""
    return "stdin" if str(path) == "-" else str(path)


def json_kind(value: object) -> str:
    """Return what JSON calls this kind of value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _tool_spec(where: str, item: Any) -> ToolSpec:
    item = unwrapped(item)
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        raise ConfigurationError(f'{where} must be an object with a "name", "description" and "parameters"')
    description = item.get("description", "")
    if not isinstance(description, str):
        raise ConfigurationError(f'{where}: "description" must be a string, got {json_kind(description)}')
    parameters = item.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, dict):
        raise ConfigurationError(
            f'{where}: "parameters" must be a JSON Schema object, got {json_kind(parameters)}'
        )
    return ToolSpec(name=item["name"], description=description, parameters=parameters)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")
