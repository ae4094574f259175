"""The three ways a model writes a call, each read from its complete text. Knows no streams and no schemas.

Text is data here: it is read by a strict JSON decoder and never evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from agentkit.inference.formats.base import IssueKind, ParsedCall, ParseIssue
from agentkit.nearest import nearest

CALL_KEYS = frozenset({"name", "parameters", "arguments", "type", "id"})
CODE_TOOL = "code_interpreter"
FORM_HINT = (
    'Reply with exactly one JSON object: {"name": function name, "parameters": {argument name: value}}.'
)

_MAX_DEPTH = 64
_SAFE_NAME = re.compile(r"[\w.\-]{1,64}")
_NAME_VALUE = re.compile(r'"name"\s*:\s*"([^"\\]*)("?)')
_ARGUMENTS_KEY = re.compile(r'"(?:parameters|arguments)"\s*:')
_BUILTIN = re.compile(r"([A-Za-z_]\w*)\.call\(")
_ARGUMENT_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")
_ARGUMENT_END = re.compile(r"\s*(?:,\s*|\Z)")
_FUNCTION = re.compile(r"<function=([^>]*)>")

Reading = ParsedCall | ParseIssue


def read_json(text: str, known: Sequence[str] | None) -> list[Reading] | None:
    """Read one complete JSON object or array; None if it is ordinary JSON that calls nothing."""
    try:
        value = _decode(text)
    except ValueError as exc:
        return [_malformed_json(exc)] if looks_like_call(text, known) else None
    if not isinstance(value, list):
        reading = _read_object(value, known)
        return None if reading is None else [reading]
    readings = [_read_object(item, known) for item in value]
    if not any(readings):
        return None
    return [reading or _malformed_call("an element of the array is not a call") for reading in readings]


def read_builtin(text: str, known: Sequence[str] | None) -> list[Reading]:
    """Read `name.call(argument="value", ...)`."""
    opening = _BUILTIN.match(text)
    if opening is None:
        return [_malformed_call("the call does not begin with a name")]
    try:
        arguments = _read_keyword_arguments(text[opening.end() : -1])
    except ValueError:
        return [
            _malformed_call(
                "the arguments of a built-in call are not name=value pairs",
                hint=f'Write {opening[1]}.call(query="..."), with inner quotes escaped as \\".',
            )
        ]
    return [_offered(ParsedCall(name=opening[1], arguments=arguments, form="builtin"), known)]


def read_function(text: str, known: Sequence[str] | None) -> list[Reading]:
    """Read `<function=name>{...}`, whose arguments are the whole JSON object."""
    opening = _FUNCTION.match(text)
    if opening is None:
        return [_malformed_call("the function tag has no name")]
    try:
        arguments = _decode(text[opening.end() :])
    except ValueError as exc:
        return [_malformed_json(exc)]
    if not isinstance(arguments, dict):
        return [_malformed_call("the arguments must be a JSON object")]
    return [_offered(ParsedCall(name=opening[1].strip(), arguments=arguments, form="function"), known)]


def read_code(text: str, known: Sequence[str] | None) -> Reading:
    """Read what follows the python tag and is no other call: code for the code interpreter."""
    if not text.strip():
        return _malformed_call("the python tag is followed by nothing")
    return _offered(ParsedCall(name=CODE_TOOL, arguments={"code": text.strip()}, form="code"), known)


def looks_like_call(text: str, known: Sequence[str] | None) -> bool:
    """Whether broken or unfinished JSON was meant as a call, rather than as an answer in JSON."""
    name = _NAME_VALUE.search(text)
    if name is None:
        return False
    value, closed = name.groups()
    if not closed:
        return known is None or any(tool.startswith(value) for tool in known)
    return value in (known or ()) or _ARGUMENTS_KEY.search(text) is not None


def cut_off(*, truncated: bool) -> ParseIssue:
    """Return the issue of an output that ended inside a call."""
    return ParseIssue(
        kind=IssueKind.TRUNCATED,
        message="the output ended before the call was complete; nothing was called",
        hint="Make the call again with shorter arguments."
        if truncated
        else "Close every quote, brace and bracket.",
    )


def unclosed_function() -> ParseIssue:
    """Return the issue of a function tag that something else follows than its end."""
    return _malformed_call("the function tag is not closed", hint="End the call with </function>.")


def _decode(text: str) -> Any:
    """Decode strict JSON: finite numbers, no duplicate keys, no lone surrogates, limited depth.

    Raises:
        ValueError: if the text is anything else.
    """
    try:
        value = _STRICT.decode(text.strip())
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    if _depth(value) > _MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise ValueError("a string holds half of a surrogate pair") from exc
    return value


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        children: list[object] = []
        for item in level:
            if isinstance(item, dict):
                children.extend(item.values())
            elif isinstance(item, list):
                children.extend(item)
        level = children
    return depth


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_refuse_constant
)


def _read_object(value: object, known: Sequence[str] | None) -> Reading | None:
    if not isinstance(value, dict) or "name" not in value:
        return None
    name = value["name"]
    given = [key for key in ("parameters", "arguments") if key in value]
    unknown = value.keys() - CALL_KEYS
    offered = isinstance(name, str) and name in (known or ())
    if (unknown or not given) and not offered:
        return None
    if unknown:
        return _malformed_call("the call has keys besides name and parameters")
    if len(given) != 1:
        return _malformed_call("the call needs exactly one of parameters and arguments")
    if value.get("type", "function") != "function":
        return _malformed_call('the type of a call can only be "function"')
    arguments = value[given[0]]
    if not isinstance(name, str):
        return _malformed_call("the name of the call is not a string")
    if not isinstance(arguments, dict):
        return _malformed_call(f"{given[0]} must be a JSON object")
    return _offered(ParsedCall(name=name, arguments=arguments, form="json"), known)


def _read_keyword_arguments(text: str) -> dict[str, Any]:
    pairs: list[tuple[str, Any]] = []
    pos = 0
    while pos < len(text):
        name = _ARGUMENT_NAME.match(text, pos)
        if name is None:
            raise ValueError("an argument has no name")
        value, end = _STRICT.raw_decode(text, name.end())
        pairs.append((name[1], value))
        separator = _ARGUMENT_END.match(text, end)
        if separator is None:
            raise ValueError("two arguments are not separated by a comma")
        pos = separator.end()
    arguments = _unique_keys(pairs)
    _decode(json.dumps(arguments))
    return arguments


def _offered(call: ParsedCall, known: Sequence[str] | None) -> Reading:
    if known is None or call.name in known:
        return call
    shown = f" {call.name!r}" if _SAFE_NAME.fullmatch(call.name) else ""
    tools = f"the tools are: {', '.join(known)}" if known else "no tools are offered"
    near = nearest(call.name, known)
    return ParseIssue(
        kind=IssueKind.UNKNOWN_TOOL,
        message=f"there is no tool{shown}; {tools}",
        hint=f"Did you mean {near}?" if near else "Call one of the tools, or answer without a call.",
    )


def _malformed_json(exc: ValueError) -> ParseIssue:
    what = f"{exc.msg} at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else str(exc)
    return ParseIssue(
        kind=IssueKind.MALFORMED_JSON,
        message=f"the call is not valid JSON: {what}",
        hint=f"Escape quotes and newlines inside strings. {FORM_HINT}",
    )


def _malformed_call(message: str, *, hint: str = FORM_HINT) -> ParseIssue:
    return ParseIssue(kind=IssueKind.MALFORMED_CALL, message=message, hint=hint)
