"""What pydantic found wrong, in one sentence with the place, the value, the bound and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agentkit.nearest import nearest

Location: TypeAlias = tuple[str | int, ...]

_LONGEST_VALUE: Final = 60

_KINDS: Final[Mapping[str, str]] = {
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: where in the document, and what, in a sentence."""

    location: Location
    message: str


def with_nearest(sentence: str, name: str, valid: Iterable[str]) -> str:
    """Return the sentence with a hint: the nearest valid name, or all of them when none is near."""
    names = list(valid)
    if near := nearest(name, names):
        return f"{sentence}; did you mean {near!r}?"
    return f"{sentence}; valid: {', '.join(names)}" if names else f"{sentence}; none is valid here"


def problem_in(error: ValidationError, schema: Mapping[str, Any], *, noun: str = "key") -> Problem:
    """Return the first problem of a validation, worded for whoever wrote the file.

    `schema` is the JSON schema that was validated against; `noun` is what its keys are called, unless the
    schema names them itself (`x-keys`).
    """
    all_details = error.errors(include_url=False)
    details = min(all_details, key=_rank)
    location = _place(details)
    match details["type"]:
        case "extra_forbidden":
            return Problem(location=location, message=_unknown(location, schema, noun))
        case "missing":
            parent = location[:-1]
            names = [_place(other)[-1] for other in all_details if _is_missing_in(parent, other)]
            return Problem(location=parent, message=_missing(parent, names, schema, noun))
        case _:
            return Problem(location=location, message=_wrong_value(details, location))


def dotted(location: Location) -> str:
    """Return a place as an operator would name it: `stages.user_input[0].on_hit`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the policy"


def shown(value: object) -> str:
    """Return a value as it may stand in an error: short, and collections by their size only."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = _json_words.get(value, repr(value)) if isinstance(value, bool | None) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


_json_words: Final[Mapping[object, str]] = {None: "null", True: "true", False: "false"}


def _rank(details: ErrorDetails) -> int:
    """Unknown and missing keys first: what follows from them is noise."""
    return {"extra_forbidden": 0, "missing": 1}.get(details["type"], 2)


def _place(details: ErrorDetails) -> Location:
    return tuple(part for part in details["loc"] if part != "[key]")


def _unknown(location: Location, schema: Mapping[str, Any], noun: str) -> str:
    name, parent = str(location[-1]), location[:-1]
    node = _node_at(schema, parent)
    sentence = f"unknown {node.get('x-keys', noun)} {name!r}{_inside(parent)}"
    return with_nearest(sentence, name, node.get("properties", {}))


def _is_missing_in(parent: Location, details: ErrorDetails) -> bool:
    return details["type"] == "missing" and _place(details)[:-1] == parent


def _missing(parent: Location, names: list[str | int], schema: Mapping[str, Any], noun: str) -> str:
    node = _node_at(schema, parent)
    plural = "" if len(names) == 1 else "s"
    sentence = f"missing {node.get('x-keys', noun)}{plural} {', '.join(map(repr, names))}{_inside(parent)}"
    return f"{sentence}; {node['x-missing']}" if "x-missing" in node else sentence


def _wrong_value(details: ErrorDetails, location: Location) -> str:
    where, value, context = dotted(location), details["input"], details.get("ctx", {})
    match details["type"]:
        case "literal_error" | "enum":
            valid = [word.strip("'") for word in re.split(r", | or ", str(context["expected"]))]
            if len(valid) == 1:
                return f"{where} must be {valid[0]}, got {shown(value)}"
            return with_nearest(f"{where} cannot be {shown(value)}", str(value), valid)
        case "value_error":
            return f"{where}: {context.get('error', details['msg'])}"
        case kind:
            words = details["msg"][:1].lower() + details["msg"][1:]
            return f"{where} {_KINDS.get(kind) or words.replace('input should', 'must')}, got {shown(value)}"


def _inside(location: Location) -> str:
    return f" in {dotted(location)}" if location else ""


def _node_at(schema: Mapping[str, Any], location: Location) -> Mapping[str, Any]:
    """Return the JSON schema of a place, or an empty one where it cannot be told."""
    node = _resolved(schema, schema)
    for part in location:
        inner = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        inner = node.get("additionalProperties") if inner is None else inner
        node = _resolved(inner, schema) if isinstance(inner, Mapping) else {}
    return node


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow `$ref`, and the one collection of an optional value."""
    if "$ref" in node:
        target = schema["$defs"][str(node["$ref"]).rsplit("/", 1)[-1]]
        return _resolved({**target, **{key: value for key, value in node.items() if key != "$ref"}}, schema)
    for option in node.get("anyOf", ()):
        resolved = _resolved(option, schema)
        if resolved.get("properties") or resolved.get("items"):
            return resolved
    return node
