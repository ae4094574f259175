"""Act: functions that a model may call, checked before they run and bounded while they run."""

from __future__ import annotations

from agentkit.tools.approval import ApprovalDecision, ApprovalRequest, Approver, ask, ask_later, call_digest
from agentkit.tools.base import Approval, Code, Effect, Tool, Trust
from agentkit.tools.call_context import CallContext, current_call, idempotency_key
from agentkit.tools.decorator import tool
from agentkit.tools.executor import Executor, ToolOutcome, ToolStatus
from agentkit.tools.toolset import Toolset

__all__ = [
    "Approval",
    "ApprovalDecision",
    "ApprovalRequest",
    "Approver",
    "CallContext",
    "Code",
    "Effect",
    "Executor",
    "Tool",
    "ToolOutcome",
    "ToolStatus",
    "Toolset",
    "Trust",
    "ask",
    "ask_later",
    "call_digest",
    "current_call",
    "idempotency_key",
    "tool",
]
