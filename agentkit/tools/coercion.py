"""Reads values that a model wrote in another notation, where nothing is lost: "3" for 3, "true" for true.

Never decides whether a value is right; the schema does that afterwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from agentkit.json_schema import as_object, branches_of, resolved, types_of
from agentkit.tools.wording import kind, path

MAX_DEPTH = 32
# Beyond this a float no longer holds every integer.
_MAX_EXACT = 2**53


def unfit(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Yield what makes a value no JSON: not a number, infinite, a foreign type, or nested without end."""
    match value:
        case None | bool() | str() | int():
            return
        case float():
            if not math.isfinite(value):
                yield f"{path(where)}: expected a finite number, got {value}"
        case dict() | list() if len(where) >= MAX_DEPTH:
            yield f"{path(where[:1])}: nested deeper than {MAX_DEPTH} levels"
        case dict():
            for key, item in value.items():
                if isinstance(key, str):
                    yield from unfit(item, (*where, key))
                else:
                    yield f"{path(where) or 'arguments'}: names must be strings, got {kind(key)}"
        case list():
            for index, item in enumerate(value):
                yield from unfit(item, (*where, index))
        case _:
            yield f"{path(where)}: expected a JSON value, got {kind(value)}"


def coerced(arguments: dict[str, Any], validator: Draft202012Validator) -> dict[str, Any]:
    """Return a copy of fit arguments, read as their schema wants them."""
    reader = _Reader(validator)
    root = as_object(validator.schema)
    return {name: reader.read(value, _property_schema(root, name), 1) for name, value in arguments.items()}


class _Reader:
    """Reads values against one root schema."""

    def __init__(self, validator: Draft202012Validator) -> None:
        self._validator = validator
        self._root = as_object(validator.schema)

    def read(self, value: Any, node: Any, depth: int) -> Any:
        schema = resolved(node, self._root)
        branches = branches_of(schema)
        if branches:
            return self._read_branch(value, branches, depth)
        value = _in_type(value, types_of(schema), depth)
        if isinstance(value, dict):
            return {
                name: self.read(item, _property_schema(schema, name), depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [
                self.read(item, _item_schema(schema, index), depth + 1) for index, item in enumerate(value)
            ]
        return value

    def _read_branch(self, value: Any, branches: list[Any], depth: int) -> Any:
        """Read by the first alternative that fits the value as it is, else by the first that can read it."""
        for branch in branches:
            if self._fits(value, branch):
                return self.read(value, branch, depth)
        for branch in branches:
            candidate = self.read(value, branch, depth)
            if self._fits(candidate, branch):
                return candidate
        return value

    def _fits(self, value: Any, branch: Any) -> bool:
        return bool(self._validator.evolve(schema=branch).is_valid(value))


def _property_schema(schema: Mapping[str, Any], name: str) -> Any:
    return schema.get("properties", {}).get(name, schema.get("additionalProperties"))


def _item_schema(schema: Mapping[str, Any], index: int) -> Any:
    prefix = schema.get("prefixItems", ())
    return prefix[index] if index < len(prefix) else schema.get("items")


def _in_type(value: Any, types: tuple[str, ...], depth: int) -> Any:
    if isinstance(value, str) and types and "string" not in types:
        value = _from_text(value, types, depth)
    if isinstance(value, float) and "integer" in types and "number" not in types:
        return int(value) if value.is_integer() and abs(value) <= _MAX_EXACT else value
    return value


def _from_text(text: str, types: tuple[str, ...], depth: int) -> Any:
    """Return the value that the text is the JSON of, if it has one of the types; else the text."""
    lowered = text.strip().lower()
    if "boolean" in types and lowered in ("true", "false"):
        return lowered == "true"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    wanted = kind(value) in types or (isinstance(value, int | float) and _is_numeric(value, types))
    if not wanted or any(unfit(value, (0,) * depth)):
        return text
    return value


def _is_numeric(value: float, types: tuple[str, ...]) -> bool:
    return not isinstance(value, bool) and ("number" in types or "integer" in types)
