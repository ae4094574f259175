"""Grammars of outputs in llguidance's Lark syntax: text, JSON calls, JSON answers. Knows no dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from agentkit.errors import ConfigurationError, GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.formats.base import ToolChoice
from agentkit.inference.schema_rule import schema_rule
from agentkit.json_schema import closed
from agentkit.messages import ToolSpec

# Text that begins, after any whitespace, neither a JSON call (or a list of them) nor a spelt special token or
# function tag. Python counts \x1c to \x1f as whitespace, the grammar's \s does not.
_SPACE = r"[\s\x1c-\x1f]*"
_TEXT = rf"TEXT: /(?s:.+)/ & ~/{_SPACE}(\{{|\[{_SPACE}\{{|<\||<function=)(?s:.*)/"
_CALL = rf'(\[{_SPACE})?\{{{_SPACE}"(name|parameters|arguments)"'
_TEXT_WITHOUT_CALL = rf"TEXT: /(?s:.+)/ & ~/{_SPACE}({_CALL}|<\||<function=)(?s:.*)/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """How a dialect writes calls: the alternatives, and the rules that they refer to."""

    alternatives: tuple[str, ...]
    rules: tuple[str, ...]


def output_grammar(
    calls: CallRules, choice: ToolChoice, *, answer_schema: Mapping[str, Any] | None
) -> Grammar | None:
    """Return the grammar of one output; None where anything may be written.

    Raises:
        ConfigurationError: if a call is required and there is none to make.
    """
    answers, answer_rules = _answer(answer_schema, choice)
    match choice:
        case ToolChoice.REQUIRED if not calls.alternatives:
            raise ConfigurationError("a tool call is required, but no tool is offered")
        case ToolChoice.REQUIRED:
            alternatives, rules = calls.alternatives, calls.rules
        case ToolChoice.AUTO:
            alternatives, rules = (*answers, *calls.alternatives), (*answer_rules, *calls.rules)
        case ToolChoice.NONE:
            alternatives, rules = answers, answer_rules
        case _:
            assert_never(choice)
    if not calls.alternatives and answer_schema is None:
        return None
    return Grammar(lark="\n".join([f"start: {' | '.join(alternatives)}", *rules]))


def json_call_rules(
    tools: Sequence[ToolSpec], *, max_calls: int, separator: str, before: str = "", after: str = ""
) -> CallRules:
    """Return the rules of `{"name": tool, "parameters": arguments}` for any of the tools, between two rules.

    There may be up to `max_calls` of them, each after the text of the separator.

    Raises:
        GrammarError: if a tool's schema says something that a grammar cannot hold, naming the tool.
    """
    if not tools:
        return CallRules(alternatives=(), rules=())
    rules = (
        f"json_call: {' | '.join(f'call_{index}' for index in range(len(tools)))}",
        *(f"call_{index}: {_call_rule(tool)}" for index, tool in enumerate(tools)),
    )
    more = f"({json.dumps(separator)} json_call){{0,{max_calls - 1}}}" if max_calls > 1 else ""
    return CallRules(alternatives=(" ".join(filter(None, (before, "json_call", more, after))),), rules=rules)


def check_tools(tools: Sequence[ToolSpec]) -> None:
    """Compile the schema of every tool, so that none fails in the middle of a conversation.

    Raises:
        GrammarError: as `json_call_rules`.
    """
    json_call_rules(tools, max_calls=1, separator="")


def check_answer_schema(schema: Mapping[str, Any]) -> None:
    """Compile the schema of an answer.

    Raises:
        GrammarError: if it says something that a grammar cannot hold.
    """
    schema_rule(closed(schema))


def _answer(schema: Mapping[str, Any] | None, choice: ToolChoice) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if schema is not None:
        return ("answer",), (f"answer: {schema_rule(closed(schema))}",)
    text = _TEXT_WITHOUT_CALL if choice is ToolChoice.NONE else _TEXT
    return ("", "TEXT"), (text,)


def _call_rule(tool: ToolSpec) -> str:
    # Closed: an argument that the tool does not have could only be refused later.
    arguments = closed({**tool.parameters, "type": "object"})
    try:
        return schema_rule(_call_of(tool.name, arguments))
    except GrammarError as exc:
        raise GrammarError(f"tool {tool.name}: {_problem_of(arguments) or exc}") from exc


def _problem_of(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a schema by itself: the place is then one in the tool's own schema."""
    try:
        schema_rule(schema)
    except GrammarError as exc:
        return str(exc)
    return None


def _call_of(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _rebased(arguments, base="/properties/parameters")
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "parameters": parameters},
        "required": ["name", "parameters"],
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
