"""Calls in JSON, in function tags and as code, read from their complete text. Knows no streams and no schemas.

Text is data here: it is read by a strict JSON decoder and never evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from agentkit.inference.formats.base import ParsedCall
from agentkit.inference.formats.call_issues import (
    Reading,
    malformed_call,
    malformed_json,
    no_object,
    offered,
)
from agentkit.inference.formats.python_literals import MAX_DEPTH, unique

CALL_KEYS = frozenset({"name", "parameters", "arguments", "type", "id", "function"})
CODE_TOOL = "code_interpreter"

_NAME_VALUE = re.compile(r"""["']?\bname["']?\s*:\s*(["'])([^"'\\]*)(\1?)""")
_ARGUMENTS_KEY = re.compile(r"""["']?\b(?:parameters|arguments)["']?\s*:""")
_FUNCTION = re.compile(r"<function=([^>]*)>")


def read_json(text: str, known: Sequence[str] | None) -> list[Reading] | None:
    """Read one complete JSON object or array; None if it is ordinary JSON that calls nothing."""
    try:
        value = _decode(text)
    except ValueError as exc:
        return [malformed_json(exc)] if looks_like_call(text, known) else None
    if not isinstance(value, list):
        reading = _read_object(value, known)
        return None if reading is None else [reading]
    readings = [_read_object(item, known) for item in value]
    if not any(readings):
        return None
    return [reading or malformed_call("an element of the array is not a call") for reading in readings]


def read_function(text: str, known: Sequence[str] | None) -> list[Reading]:
    """Read `<function=name>{...}`, whose arguments are the whole JSON object."""
    opening = _FUNCTION.match(text)
    if opening is None:
        return [malformed_call("the function tag has no name")]
    try:
        arguments = _decode(text[opening.end() :])
    except ValueError as exc:
        return [malformed_json(exc)]
    if not isinstance(arguments, dict):
        return [no_object("the arguments")]
    return [offered(ParsedCall(name=opening[1].strip(), arguments=arguments, form="function"), known)]


def read_code(text: str, known: Sequence[str] | None) -> Reading:
    """Read what follows the python tag and is no other call: code, where the code interpreter was offered."""
    if not text.strip():
        return malformed_call("the python tag is followed by nothing")
    return offered(ParsedCall(name=CODE_TOOL, arguments={"code": text.strip()}, form="code"), known or ())


def looks_like_call(text: str, known: Sequence[str] | None) -> bool:
    """Whether broken or unfinished JSON was meant as a call, rather than as an answer in JSON."""
    name = _NAME_VALUE.search(text)
    if name is None:
        return False
    _, value, closed = name.groups()
    if not closed:
        return known is None or any(tool.startswith(value) for tool in known)
    return value in (known or ()) or _ARGUMENTS_KEY.search(text) is not None


def _decode(text: str) -> Any:
    """Decode JSON: finite numbers, no duplicate keys, no lone surrogates, limited depth.

    Only in one thing it is more lenient than the standard: strings may hold newlines and other control
    characters as they are. Nothing else can be meant by them, and models write them.

    Raises:
        ValueError: if the text is anything else.
    """
    try:
        value = _STRICT.decode(text.strip())
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    if _depth(value) > MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
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


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(
    object_pairs_hook=unique, parse_float=_finite, parse_constant=_refuse_constant, strict=False
)


def _read_object(value: object, known: Sequence[str] | None) -> Reading | None:
    if not isinstance(value, dict):
        return None
    if "name" not in value:
        is_wrapped = value.get("type") == "function" or value.get("function") in (known or ())
        return _read_wrapped(value, known) if is_wrapped else None
    name = value["name"]
    given = [key for key in ("parameters", "arguments") if key in value]
    unknown = value.keys() - (CALL_KEYS - {"function"})
    is_offered = isinstance(name, str) and name in (known or ())
    if (unknown or not given) and not is_offered:
        return None
    if unknown:
        return malformed_call("the call has keys besides name and parameters")
    if len(given) != 1:
        return malformed_call("the call needs exactly one of parameters and arguments")
    if value.get("type", "function") != "function":
        return malformed_call('the type of a call can only be "function"')
    arguments = value[given[0]]
    if not isinstance(name, str):
        return malformed_call("the name of the call is not a string")
    if not isinstance(arguments, dict):
        return no_object(given[0])
    return offered(ParsedCall(name=name, arguments=arguments, form="json"), known)


def _read_wrapped(value: dict[str, Any], known: Sequence[str] | None) -> Reading | None:
    """Read `{"type": "function", "function": {...}}`, the form in which tools are described."""
    inner = value.get("function")
    if isinstance(inner, dict) and value.keys() <= {"type", "function", "id"}:
        return _read_object(inner, known)
    if "parameters" in value or "arguments" in value:
        return malformed_call('the call has no "name"')
    return None
