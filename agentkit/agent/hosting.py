"""The turn that a sub-agent works for, as its tool function finds it. Knows neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from agentkit.agent.limits import Budget
from agentkit.agent.result import UsageMeter
from agentkit.errors import ToolError
from agentkit.tools.approval import Approver

MAX_DEPTH: Final = 3
"""How many agents may work for each other: a turn, its sub-agent, and a sub-agent of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a turn lends to the sub-agents that it calls, and what it tells them about itself.

    What they spend is of its `budget` and counts in its `meter`. `tainted` says that it has read untrusted content, so
    that what it asks for may be anybody's wish. `approver` answers where a sub-agent has nobody of its own to ask.
    """

    tenant: str
    depth: int
    budget: Budget
    meter: UsageMeter
    approver: Approver | None
    tainted: bool


_host: ContextVar[Host | None] = ContextVar("agentkit_host", default=None)


@contextmanager
def hosting(host: Host) -> Iterator[None]:
    """Be the host of the sub-agents that are called in the block, in its tasks too."""
    token = _host.set(host)
    try:
        yield
    finally:
        _host.reset(token)


def current_host() -> Host:
    """Return the turn that is calling a sub-agent.

    Raises:
        ToolError: outside of one, or if there are `MAX_DEPTH` agents at work for each other already.
    """
    host = _host.get()
    if host is None:
        raise ToolError("a sub-agent works only for an agent that calls it; use agent.run(...) elsewhere")
    if host.depth >= MAX_DEPTH:
        raise ToolError(f"no more than {MAX_DEPTH} agents work for each other; do this without another one")
    return host
