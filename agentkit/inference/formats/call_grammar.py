"""Grammars of outputs in llguidance's Lark syntax: text, JSON calls, JSON answers. Knows no dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never

from llguidance import LLMatcher, LLParserLimits

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Grammar
from agentkit.inference.formats.base import ToolChoice
from agentkit.json_schema import closed, structure
from agentkit.messages import ToolSpec

# The whitespace of `json.dumps`, which models were trained on. Lenient: a keyword that cannot be constrained
# is left to the validation of the arguments, instead of making the tool unusable.
_JSON_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": True,
}
_LIMITS = LLParserLimits(verbose_errors=False)
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


def json_call_rules(tools: Sequence[ToolSpec], *, before: str = "", after: str = "") -> CallRules:
    """Return the rules of `{"name": tool, "parameters": arguments}` for each tool, between two rules."""
    rules = tuple(f"call_{index}: {json_rule(_call_schema(tool))}" for index, tool in enumerate(tools))
    alternatives = (f"{before} call_{index} {after}".strip() for index in range(len(tools)))
    return CallRules(alternatives=tuple(alternatives), rules=rules)


def json_rule(schema: Mapping[str, Any]) -> str:
    """Return the body of a rule for JSON that fits a schema."""
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS}, ensure_ascii=True)}"


def _answer(schema: Mapping[str, Any] | None, choice: ToolChoice) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if schema is not None:
        return ("answer",), (f"answer: {json_rule(closed(schema))}",)
    text = _TEXT_WITHOUT_CALL if choice is ToolChoice.NONE else _TEXT
    return ("", "TEXT"), (text,)


def _call_schema(tool: ToolSpec) -> dict[str, Any]:
    """Return the schema of a call, as strict as compiles: a pattern may look ahead, a closed `allOf` fits nothing."""
    # Closed: an argument that the tool does not have could only be refused later.
    strict = _call_of(tool.name, closed({**tool.parameters, "type": "object"}))
    if _compiles(json_rule(strict)):
        return strict
    loose = _call_of(tool.name, {**structure(tool.parameters), "type": "object"})
    return loose if _compiles(json_rule(loose)) else _call_of(tool.name, {"type": "object"})


@lru_cache(maxsize=256)
def _compiles(rule: str) -> bool:
    is_error, _ = LLMatcher.validate_grammar_with_warnings(f"start: {rule}", None, limits=_LIMITS)
    return not is_error


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
