"""Words for errors that a model reads: short values, paths, nearest names. All of bounded length."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MAX_VALUE_CHARS = 40
MAX_LISTED = 20


def kind(value: Any) -> str:
    """Return the JSON type of a value, or the Python type of one that is not JSON."""
    if value is None:
        return "null"
    for name, python_type in _KINDS:
        if isinstance(value, python_type):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[str, type], ...] = (
    ("boolean", bool),  # before integer: True is an int
    ("integer", int),
    ("number", float),
    ("string", str),
    ("object", dict),
    ("array", list),
)


def shown(value: Any) -> str:
    """Return a scalar as a short JSON text; of anything larger, only its kind."""
    if not isinstance(value, str | int | float | bool | None):
        return f"an {name}" if (name := kind(value))[0] in "ao" else name
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        return json.dumps(value[:MAX_VALUE_CHARS] + "…", ensure_ascii=False)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * MAX_VALUE_CHARS:
        return "a very large integer"
    return json.dumps(value, ensure_ascii=False)


def listed(names: Iterable[str], *, between: str = ", ") -> str:
    """Join names, and say how many were left out."""
    every = list(names)
    rest = len(every) - MAX_LISTED
    text = between.join(every[:MAX_LISTED])
    return f"{text} and {rest} more" if rest > 0 else text


def path(parts: Iterable[str | int]) -> str:
    """Return where a value is: `address.lines[2]`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:MAX_VALUE_CHARS]}"
    return text.removeprefix(".")
