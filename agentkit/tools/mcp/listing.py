"""What an MCP server offers, as a digest can hold it and as our tools need it. Knows no connection."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from mcp import Client, types

from agentkit.errors import ToolDefinitionError, ToolError
from agentkit.json_schema import as_object, simplified, types_of, unknown_references

MAX_TOOLS: Final = 256
_MAX_PAGES: Final = 64
_PINNED: Final = {"name", "title", "description", "input_schema", "output_schema", "annotations"}
_REGULAR_EXPRESSIONS: Final = ("pattern", "patternProperties")
_NAMED: Final = ("properties", "$defs", "dependentSchemas")
"""Keywords whose value has names, not keywords."""
_FOREIGN: Final = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """A tool as its server describes it. `digest` is of all that a person may have relied on when they agreed."""

    name: str
    description: str
    schema: Mapping[str, Any]
    digest: str


async def list_tools(client: Client, server_name: str) -> tuple[ListedTool, ...]:
    """Return everything that a server offers now.

    Raises:
        ToolError: if the listing has no end.
    """
    listed: list[ListedTool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        listed += [listed_tool(tool) for tool in page.tools]
        cursor = page.next_cursor
        if len(listed) > MAX_TOOLS:
            break
        if cursor is None:
            return tuple(listed)
    raise ToolError(f"MCP server {server_name} lists more than {MAX_TOOLS} tools, or pages without end")


def digest_of(tools: Iterable[ListedTool]) -> str:
    """Return the SHA-256 of an offer, independent of the order of its tools."""
    return _digest(sorted((tool.name, tool.digest) for tool in tools))


def tool_name(server_name: str, name: str) -> str:
    """Return what the model calls a tool of a server; what no format can write becomes `_`."""
    return f"{server_name}__{_FOREIGN.sub('_', name)}"


def parameters_of(tool: ListedTool) -> dict[str, Any]:
    """Return the schema of a tool's arguments in our form.

    Its regular expressions are left out: run on our side, one of them could take for ever. The server checks its own.

    Raises:
        ToolDefinitionError: if the schema is none, or refers to what it does not hold.
    """
    schema = _without_expressions(tool.schema)
    schema.setdefault("type", "object")
    schema.setdefault("properties", {})
    schema.pop("$schema", None)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ToolDefinitionError(
            f"its schema is not a valid JSON Schema at {error.json_path[:80]}"
        ) from error
    unknown = unknown_references(schema)
    if unknown:
        raise ToolDefinitionError(
            f"its schema refers to {unknown[0][:80]!r}; only '#/$defs/NAME' inside the schema can be used"
        )
    return simplified(schema)


def code_arguments_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments that hold code: as in a function of our own, a text that is named `code`."""
    code = as_object(as_object(parameters.get("properties")).get("code"))
    return {"code": "python"} if "string" in types_of(code) else {}


def listed_tool(tool: types.Tool) -> ListedTool:
    """Return a tool as its server describes it."""
    return ListedTool(
        name=tool.name,
        description=(tool.description or "").strip(),
        schema=tool.input_schema,
        digest=_digest(tool.model_dump(mode="json", include=_PINNED, exclude_none=True)),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _without_expressions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a schema without its keywords that hold regular expressions; arguments keep their names."""
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            kept[key] = {name: _copied(child) for name, child in value.items()}
        elif key not in _REGULAR_EXPRESSIONS:
            kept[key] = _copied(value)
    return kept


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_expressions(value)
    return [_copied(item) for item in value] if isinstance(value, list) else value
