"""Calls in Python's notation, read from their complete text: `name.call(a="b")` and `[name(a="b"), ...]`.

Nothing is evaluated: arguments are literals, or the call is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from agentkit.inference.formats.base import ParsedCall
from agentkit.inference.formats.call_issues import Reading, malformed_call, offered
from agentkit.inference.formats.python_literals import read_items, read_literal, skip_space, unique

_BUILTIN = re.compile(r"([\w.\-]+)\.call\(")
_LISTED = re.compile(r"([A-Za-z_][\w.\-]*)\s*\(")
_ARGUMENT_NAME = re.compile(r"([A-Za-z_]\w*)\s*=\s*")
_LIST_HINT = 'Write [function_name(argument_name="value")], every argument by name, strings in quotes.'


def read_builtin(text: str, known: Sequence[str] | None) -> list[Reading]:
    """Read `name.call(argument="value", ...)`."""
    opening = _BUILTIN.match(text)
    if opening is None:
        return [malformed_call("the call does not begin with a name")]
    try:
        arguments, _ = _read_arguments(text, opening.end())
    except ValueError:
        return [
            malformed_call(
                "the arguments of a built-in call are not name=value pairs",
                hint=f'Write {opening[1]}.call(query="..."), with inner quotes escaped as \\".',
            )
        ]
    return [offered(ParsedCall(name=opening[1], arguments=arguments, form="builtin"), known)]


def read_python_list(text: str, known: Sequence[str] | None) -> list[Reading] | None:
    """Read `[name(argument="value", ...), ...]`; None if it is neither that nor begins with a tool's name."""
    start = skip_space(text, 1)
    try:
        calls, _ = read_items(text, start, "]", partial(_read_listed, text))
    except ValueError as exc:
        first = _LISTED.match(text, start)
        if first is None or first[1] not in (known or ()):
            return None
        return [malformed_call(f"the list of calls cannot be read: {exc}", hint=_LIST_HINT)]
    return [offered(call, known) for call in calls]


def _read_listed(text: str, pos: int) -> tuple[ParsedCall, int]:
    opening = _LISTED.match(text, pos)
    if opening is None:
        raise ValueError(f"there is no call at character {pos}")
    arguments, end = _read_arguments(text, opening.end())
    return ParsedCall(name=opening[1], arguments=arguments, form="python_list"), end


def _read_arguments(text: str, pos: int) -> tuple[dict[str, Any], int]:
    pairs, end = read_items(text, pos, ")", partial(_read_argument, text))
    return unique(pairs), end


def _read_argument(text: str, pos: int) -> tuple[tuple[str, object], int]:
    name = _ARGUMENT_NAME.match(text, pos)
    if name is None:
        raise ValueError(f"an argument has no name at character {pos}")
    value, end = read_literal(text, name.end())
    return (name[1], value), end
