"""Rules of calls for a grammar in llguidance's Lark syntax, in each tool format. Knows no answer and no dialect."""

from __future__ import annotations

import json
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
    """How a dialect writes calls: the alternatives, and the rules that they refer to."""

    alternatives: tuple[str, ...]
    rules: tuple[str, ...]


def call_rules(
    tools: Sequence[ToolSpec],
    tool_format: ToolFormat,
    *,
    max_calls: int,
    separator: str,
    before: str = "",
    after: str = "",
    json_fields: Mapping[str, Any] | None = None,
) -> CallRules:
    """Return the rules of up to `max_calls` calls of any of the tools, between two rules.

    `separator` is the text between two calls where the format has none of its own; `json_fields` are the schemas
    of what a JSON call has before its name.

    Raises:
        GrammarError: if a tool's schema says something that a grammar cannot hold, naming the tool.
    """
    if not tools:
        return CallRules(alternatives=(), rules=())
    rules = [f"a_call: {' | '.join(f'call_{index}' for index in range(len(tools)))}"]
    for index, tool in enumerate(tools):
        rules += _rules_of(tool, f"call_{index}", tool_format, json_fields or {})
    between = {"function_tag": "", "python_list": ", "}.get(tool_format, separator)
    more = f"({_text(between)} a_call){{0,{max_calls - 1}}}" if max_calls > 1 else ""
    brackets = ('"["', '"]"') if tool_format == "python_list" else ("", "")
    sequence = (before, brackets[0], "a_call", more, brackets[1], after)
    return CallRules(alternatives=(" ".join(filter(None, sequence)),), rules=tuple(rules))


def check_tools(tools: Sequence[ToolSpec]) -> None:
    """Compile the schema of every tool, so that none fails in the middle of a conversation.

    Raises:
        GrammarError: as `call_rules`.
    """
    call_rules(tools, "json", max_calls=1, separator="")


def _rules_of(
    tool: ToolSpec, rule: str, tool_format: ToolFormat, json_fields: Mapping[str, Any]
) -> list[str]:
    # Closed: an argument that the tool does not have could only be refused later.
    arguments = closed({**tool.parameters, "type": "object"})
    try:
        match tool_format:
            case "json":
                return [f"{rule}: {schema_rule(_json_call(tool.name, arguments, json_fields))}"]
            case "function_tag":
                body = [f"{rule}_body: {schema_rule(arguments)}"]
                opening, closing = f"<function={tool.name}>", "</function>"
            case "python_list":
                body = _argument_rules(arguments, f"{rule}_body")
                opening, closing = f"{tool.name}(", ")"
            case "builtin":
                body = _argument_rules(arguments, f"{rule}_body")
                opening, closing = f"{tool.name}.call(", ")"
    except GrammarError as exc:
        raise GrammarError(f"tool {tool.name}: {_problem_of(arguments) or exc}") from exc
    return [f"{rule}: {_text(opening)} {rule}_body {_text(closing)}", *body]


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


def _problem_of(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schema by itself: the place is then one in the tool's own schema."""
    try:
        schema_rule(schema)
    except GrammarError as exc:
        return str(exc)
    return None


def _json_call(name: str, arguments: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _rebased(arguments, base="/properties/parameters")
    properties = {**fields, "name": {"const": name}, "parameters": parameters}
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
