"""JSON Schemas as rules of a grammar: all that a schema says is held to, or it is refused. Knows no tool."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from agentkit.errors import GrammarError
from agentkit.json_schema import expressible, places

LIMITS = LLParserLimits(verbose_errors=False)
"""Errors must not carry the grammar's state: it holds what was generated."""

# The whitespace of `json.dumps`: models were trained on it, and free whitespace lets a small one spin.
_JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_UNIMPLEMENTED = "Unimplemented keys"
_MAX_REASON_CHARS = 200


def schema_rule(schema: Mapping[str, Any]) -> str:
    """Return the body of a Lark rule for the JSON texts that fit the schema, with the whitespace of `json.dumps`.

    Objects have their properties in the order of the schema.

    Raises:
        GrammarError: if the schema says something that a grammar cannot hold, naming the keyword and its place.
    """
    try:
        text = json.dumps(expressible(schema))
    except (TypeError, ValueError, RecursionError) as exc:
        raise GrammarError(f"the schema is not plain JSON: {exc}") from exc
    return _checked_rule(text)


def one_line(message: str) -> str:
    """Return the sentence of llguidance's message, without its position and its echo of the grammar."""
    sentence = re.sub(r"^(at )?\d+\(\d+\): ", "", message.strip()).partition("\n")[0]
    detail = re.search(r"^error: (.*)$", message, flags=re.MULTILINE)
    if detail:
        sentence = f"{sentence} {detail.group(1)}"
    return sentence.removeprefix("failed to compile JSON schema: ")[:_MAX_REASON_CHARS]


# The same tools are offered in every step.
@lru_cache(maxsize=256)
def _checked_rule(text: str) -> str:
    schema = json.loads(text)
    if _problem(schema) is not None:
        raise GrammarError(_explained(schema))
    return _rule(schema)


def _rule(schema: Mapping[str, Any]) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_OPTIONS})}"


def _problem(schema: Mapping[str, Any]) -> str | None:
    """Return why a schema does not compile, or None."""
    _, messages = LLMatcher.validate_grammar_with_warnings(f"start: {_rule(schema)}", None, limits=LIMITS)
    return messages[0] if messages else None


def _explained(schema: Mapping[str, Any]) -> str:
    """Name the innermost place that does not compile by itself, and what there cannot be."""
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    for path, node in reversed(list(places(schema))):
        problem = _problem({**definitions, **node})
        if problem is not None:
            keyword = _culprit(node, definitions)
            where = f" at {path}" if path else ""
            return (
                f"a grammar cannot hold the schema's {keyword}{where}{_reason(keyword, problem)}; "
                "change it, or check it in code"
            )
    return "a grammar cannot hold the schema; simplify it"


def _reason(keyword: str, problem: str) -> str:
    if _UNIMPLEMENTED in problem:
        return ""
    if keyword == "oneOf":
        return " (a value might fit several of its branches; use anyOf)"
    return f" ({one_line(problem)})"


def _culprit(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the keyword without which the rest compiles, or all of them where there is no single one."""
    for keyword in sorted(node, key=lambda key: key == "type"):  # without a type, much else says nothing
        rest = {key: value for key, value in node.items() if key != keyword}
        if keyword != "$defs" and _problem({**definitions, **rest}) is None:
            return keyword
    return ", ".join(key for key in node if key != "$defs")
