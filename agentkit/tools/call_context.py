"""What a tool may know about the call that it is serving. Knows no loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from agentkit.errors import ToolError
from agentkit.messages import ToolCall
from agentkit.tools.approval import call_digest
from agentkit.tools.state import SessionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """One call. `idempotency_key` is the same when a call whose outcome was lost is made again, and no other's.

    `session` names the session whose call it is; None for a call outside of any.
    """

    call_id: str
    tool_name: str
    idempotency_key: str
    session: SessionKey | None = None


_current: ContextVar[CallContext | None] = ContextVar("agentkit_current_call", default=None)


def current_call() -> CallContext:
    """Return the call that the running tool function serves, also in its tasks and worker threads.

    Raises:
        ToolError: outside of a call.
    """
    context = _current.get()
    if context is None:
        raise ToolError("current_call() works only inside a tool that an agent is calling")
    return context


def idempotency_key(call: ToolCall) -> str:
    """Return what names this call, with exactly these arguments, in every attempt."""
    return f"{call.id}-{call_digest(call)[:16]}"


@contextmanager
def serving(call: ToolCall, session: SessionKey | None = None) -> Iterator[None]:
    """Make a call the current one inside the block."""
    context = CallContext(
        call_id=call.id, tool_name=call.name, idempotency_key=idempotency_key(call), session=session
    )
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
