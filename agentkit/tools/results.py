"""What a model reads of a tool's result: text, JSON for everything else, cut at a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic_core

from agentkit.errors import ToolError

_NO_TEXT = (bytes, bytearray, memoryview, Iterator)


def as_text(value: Any) -> str:
    """Return a result as text: a string as it is, anything else as compact JSON.

    Raises:
        ToolError: if the value has no JSON form, for instance bytes.
    """
    if isinstance(value, str):
        # A lone surrogate has no UTF-8 form and would break every later step.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, _NO_TEXT):
        raise _no_form(value)
    try:
        return pydantic_core.to_json(value, inf_nan_mode="constants").decode("utf-8")
    except Exception as error:
        raise _no_form(value) from error


def cut(text: str, limit: int) -> tuple[str, bool]:
    """Return the first `limit` characters with a note of what is missing, and whether anything is."""
    if len(text) <= limit:
        return text, False
    return f"{text[:limit]}\n[cut: the first {limit} of {len(text)} characters are shown]", True


def _no_form(value: object) -> ToolError:
    return ToolError(f"its result of type {type(value).__name__} cannot be written as text or JSON")
