"""The name that a mistyped one was meant to be. Knows no room; each words its own hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_MAX_CHARACTERS: Final = 64
"""No name of ours is longer, and comparing takes quadratic time."""


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like `name`, or None if none has at least `cutoff` in common with it."""
    matches = difflib.get_close_matches(name[:_MAX_CHARACTERS], list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None
