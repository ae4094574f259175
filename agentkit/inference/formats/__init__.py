"""Prompt dialects: messages and tools to token ids, and outputs back to text and calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.inference.formats.dialects import check_dialect, format_for

__all__ = ["check_dialect", "format_for"]


def __getattr__(name: str) -> Any:
    """Load the dialects when one is asked for: they import a tokenizer's libraries."""
    if name in __all__:
        from agentkit.inference.formats import dialects

        return getattr(dialects, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
