"""Numbers out of the settings that come with a model, or an error that names the key. Knows no model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from agentkit.errors import ModelLoadError


def integer(settings: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a whole number; a key that is missing or null has the default.

    Raises:
        ModelLoadError: if there is neither a value nor a default, or the value is no whole number.
    """
    value = _value(settings, key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelLoadError(f"{key!r} must be a whole number, got {value!r}")
    return value


def number(settings: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Return a number as a float; a key that is missing or null has the default.

    Raises:
        ModelLoadError: if there is neither a value nor a default, or the value is no finite number.
    """
    value = _value(settings, key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ModelLoadError(f"{key!r} must be a finite number, got {value!r}")
    return float(value)


def _value(settings: Mapping[str, Any], key: str, default: Any) -> Any:
    value = settings.get(key)
    if value is None:
        value = default
    if value is None:
        raise ModelLoadError(f"the configuration has no {key!r}")
    return value
