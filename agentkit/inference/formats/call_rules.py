"""Rules of calls for a grammar in llguidance's Lark syntax, in each tool format. Knows no answer and no dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.errors import GrammarError
from agentkit.inference.formats.call_forms import ToolFormat
from agentkit.inference.schema_rule import schema_rule
from agentkit.json_schema import closed
from agentkit.messages import ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """How a dialect writes calls: the alternatives, the rules that they refer to, and the names of the tools."""

    alternatives: tuple[str, ...]
    rules: tuple[str, ...]
    names: tuple[str, ...]


def call_rules(
    tools: Sequence[ToolSpec],
    tool_format: ToolFormat,
    *,
    max_calls: int,
    separator: str,
    before: str = "",
    after: str = "",
    json_opening: str = "{",
    answer_schema: Mapping[str, Any] | None = None,
) -> CallRules:
    """Return the rules of up to `max_calls` calls of any of the tools, between two rules.

    `separator` is the text between two calls where the format has none of its own; `json_opening` is what a JSON
    call has before its name. Beside an answer in JSON, which may begin like a call, a JSON call is one object.

    Raises:
        GrammarError: if a tool's schema says something that a grammar cannot hold, naming the tool.
    """
    if not tools:
        return CallRules(alternatives=(), rules=(), names=())
    rules: list[str] = []
    for index, tool in enumerate(tools):
        first, following, closing = _frame(tool.name, tool_format, separator, json_opening)
        if tool_format == "json" and answer_schema is not None:
            rules += _object_rules(tool, index, separator, json_opening)
            continue
        # One terminal: where text may stand too, it is told from text by its end.
        rules.append(f"HEAD_{index}: /{_pattern(first)}/")
        rules.append(f"call_{index}: HEAD_{index} call_{index}_rest")
        rules.append(f"call_{index}_next: {_text(following)} call_{index}_rest")
        rules.append(f"call_{index}_rest: call_{index}_body {_text(closing)}")
        rules += _body_rules(tool, f"call_{index}_body", tool_format)
    rules.append(f"a_call: {' | '.join(f'call_{index}' for index in range(len(tools)))}")
    rules.append(f"next_call: {' | '.join(f'call_{index}_next' for index in range(len(tools)))}")
    more = f"next_call{{0,{max_calls - 1}}}" if max_calls > 1 else ""
    bracket = '"]"' if tool_format == "python_list" else ""
    return CallRules(
        alternatives=(" ".join(filter(None, (before, "a_call", more, bracket, after))),),
        rules=tuple(rules),
        names=tuple(tool.name for tool in tools),
    )


def check_tools(tools: Sequence[ToolSpec]) -> None:
    """Compile the schema of every tool, so that none fails in the middle of a conversation.

    Raises:
        GrammarError: as `call_rules`.
    """
    call_rules(tools, "json", max_calls=1, separator="")


def _frame(name: str, tool_format: ToolFormat, separator: str, json_opening: str) -> tuple[str, str, str]:
    """Return what stands before the arguments of a first call, of a following one, and after them."""
    match tool_format:
        case "json":
            opening = f'{json_opening}"name": {json.dumps(name)}, "parameters": '
            return opening, separator + opening, "}"
        case "function_tag":
            return f"<function={name}>", f"<function={name}>", "</function>"
        case "python_list":
            return f"[{name}(", f", {name}(", ")"
        case "builtin":
            return f"{name}.call(", f"{separator}{name}.call(", ")"


def _body_rules(tool: ToolSpec, rule: str, tool_format: ToolFormat) -> list[str]:
    # Closed: an argument that the tool does not have could only be refused later.
    arguments = closed({**tool.parameters, "type": "object"})
    try:
        if tool_format in ("json", "function_tag"):
            return [f"{rule}: {schema_rule(arguments)}"]
        return _argument_rules(arguments, rule)
    except GrammarError as exc:
        raise GrammarError(f"tool {tool.name}: {exc}") from exc


def _object_rules(tool: ToolSpec, index: int, separator: str, json_opening: str) -> list[str]:
    fields = json.loads(f'{json_opening}"name": {json.dumps(tool.name)}}}')
    arguments = closed({**tool.parameters, "type": "object"})
    try:
        body = schema_rule(_json_call(arguments, fields))
    except GrammarError as exc:
        raise GrammarError(f"tool {tool.name}: {exc}") from exc
    return [f"call_{index}: {body}", f"call_{index}_next: {_text(separator)} call_{index}"]


def _argument_rules(schema: Mapping[str, Any], rule: str) -> list[str]:
    """Return the rules of `name=value` for the properties, in their order; optional ones may be left out.

    Raises:
        GrammarError: if the arguments are described in another way than by their names.
    """
    if any(keyword in schema for keyword in ("allOf", "anyOf", "oneOf", "$ref", "if", "patternProperties")):
        raise GrammarError(
            "arguments in Python's notation have to be described by name; use tool_format json"
        )
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    names = list(properties)
    rules, starts = [], []
    for index, name in enumerate(names):
        value = properties[name] if isinstance(properties[name], Mapping) else {}
        rules.append(f"{rule}_{index}: {_text(f'{name}=')} {rule}_{index}_value")
        rules.append(f"{rule}_{index}_value: {schema_rule({**value, **definitions})}")
    for first in range(len(names)):
        rest = [
            f'(", " {rule}_{index}){"" if names[index] in required else "?"}'
            for index in range(first + 1, len(names))
        ]
        starts.append(" ".join([f"{rule}_{first}", *rest]))
        if names[first] in required:
            break
    if not required & set(names):
        starts.append('""')
    return [f"{rule}: {' | '.join(starts)}", *rules]


def _text(text: str) -> str:
    return json.dumps(text) if text else ""


def _pattern(text: str) -> str:
    return re.escape(text).replace("\\ ", " ").replace("/", "\\/")


def _json_call(arguments: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    constants = {name: {"const": value} for name, value in fields.items()}
    properties = {**constants, "parameters": _rebased(arguments, base="/properties/parameters")}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _rebased(schema: Any, *, base: str) -> Any:
    """Return the schema with its references to its own root pointing to where it is put."""
    if isinstance(schema, list):
        return [_rebased(item, base=base) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    rebased = {key: _rebased(value, base=base) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        rebased["$ref"] = f"#{base}{reference[1:]}"
    return rebased
