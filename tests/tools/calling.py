"""Cleared calls for the tests of the tools room, which is tested by itself."""

from __future__ import annotations

from typing import Any

from agentkit.cleared import _SEAL, Cleared
from agentkit.messages import ToolCall


def cleared(name: str, call_id: str = "call_1", /, **arguments: Any) -> Cleared[ToolCall]:
    """Return a call as the pipeline would let it through."""
    return Cleared(ToolCall(id=call_id, name=name, arguments=arguments), seal=_SEAL)
