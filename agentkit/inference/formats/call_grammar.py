"""Grammars of outputs in llguidance's Lark syntax: text, answers in JSON, calls. Knows no dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Grammar
from agentkit.inference.formats.base import ToolChoice
from agentkit.inference.formats.call_rules import CallRules
from agentkit.inference.schema_rule import schema_rule
from agentkit.json_schema import closed

# Text that begins, after any whitespace, neither a JSON call (or a list of them) nor a spelt special token, a
# function tag or a call in Python's notation. Python counts \x1c to \x1f as whitespace, the grammar's \s does not.
_SPACE = r"[\s\x1c-\x1f]*"
_PYTHON_CALL = rf"\[{_SPACE}[A-Za-z_][A-Za-z0-9_.\-]*\(|[A-Za-z_][A-Za-z0-9_.\-]*\.call\("
_TEXT = rf"TEXT: /(?s:.+)/ & ~/{_SPACE}(\{{|\[{_SPACE}\{{|{_PYTHON_CALL}|<\||<function=)(?s:.*)/"
_CALL = rf'(\[{_SPACE})?\{{{_SPACE}"(name|parameters|arguments)"'
_TEXT_WITHOUT_CALL = rf"TEXT: /(?s:.+)/ & ~/{_SPACE}({_CALL}|{_PYTHON_CALL}|<\||<function=)(?s:.*)/"


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
