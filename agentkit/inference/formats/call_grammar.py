"""Grammars of outputs in llguidance's Lark syntax: text, answers in JSON, calls. Knows no dialect."""

from __future__ import annotations

import re
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
_OPENING = rf"{_SPACE}(\{{|\[{_SPACE}\{{|{_PYTHON_CALL}|<\||<function=)(?s:.*)"
_CALL = rf'(\[{_SPACE})?\{{{_SPACE}"(name|parameters|arguments)"'
_TEXT_WITHOUT_CALL = rf"TEXT: /(?s:.+)/ & ~/{_SPACE}({_CALL}|{_PYTHON_CALL}|<\||<function=)(?s:.*)/"


def output_grammar(
    calls: CallRules, choice: ToolChoice, *, answer_schema: Mapping[str, Any] | None
) -> Grammar | None:
    """Return the grammar of one output; None where anything may be written.

    Raises:
        ConfigurationError: if a call is required and there is none to make.
    """
    made = " | ".join(calls.alternatives)
    match choice:
        case ToolChoice.REQUIRED if not made:
            raise ConfigurationError("a tool call is required, but no tool is offered")
        case ToolChoice.REQUIRED:
            start, rules = made, list(calls.rules)
        case ToolChoice.AUTO if answer_schema is None:
            start, rules = _text_or_calls(calls)
        case ToolChoice.AUTO:
            start, rules = _alternatives("answer", made), [*_answer_rules(answer_schema), *calls.rules]
        case ToolChoice.NONE if answer_schema is None:
            start, rules = ' "" | TEXT', [_TEXT_WITHOUT_CALL]
        case ToolChoice.NONE:
            start, rules = "answer", _answer_rules(answer_schema)
        case _:
            assert_never(choice)
    if not made and answer_schema is None:
        return None
    return Grammar(lark="\n".join([f"start: {start}", *rules]))


def check_answer_schema(schema: Mapping[str, Any]) -> None:
    """Compile the schema of an answer.

    Raises:
        GrammarError: if it says something that a grammar cannot hold.
    """
    schema_rule(closed(schema))


def _answer_rules(schema: Mapping[str, Any] | None) -> list[str]:
    return [f"answer: {schema_rule(closed(schema or {}))}"]


def _alternatives(*alternatives: str) -> str:
    return " | ".join(filter(None, alternatives))


def _text_or_calls(calls: CallRules) -> tuple[str, list[str]]:
    """Return the rules of text, line by line, and of calls: alone, or on a line of their own after text.

    No line begins with a call of a tool unless it is one: what the model could call is held to its schema there.
    Lines are lazy, so that each ends at its newline and a call may follow.
    """
    names = "|".join(re.escape(name).replace("/", "\\/") for name in calls.names)
    wrapped = rf'"type"{_SPACE}:{_SPACE}"function"'
    named = rf'"name"{_SPACE}:{_SPACE}"({names})"'
    call = rf"(\[{_SPACE})?\{{{_SPACE}({named}|{wrapped})|<function=({names})>|\[{_SPACE}({names})\(|({names})\.call\("
    rules = [
        rf"TEXT: /[^\n]+/ & ~/{_OPENING}/",
        rf"FIRST: /[^\n]*\n/ & ~/{_OPENING}/",
        rf"LINE: /[^\n]*\n/ & ~/({call})(?s:.*)/",
        rf"REST: /[^\n]+/ & ~/({call})(?s:.*)/",
        "first[lazy]: FIRST",
        "line[lazy]: LINE",
        f"calls: {' | '.join(calls.alternatives)}",
        *calls.rules,
    ]
    return ' "" | TEXT | calls | first line* (REST | calls)?', rules
