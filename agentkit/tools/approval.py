"""Asking a person whether a call may run. Fails closed: without a clear yes, the answer is no."""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import anyio.to_thread

from agentkit.errors import ConfigurationError
from agentkit.messages import ToolCall
from agentkit.tools.base import Effect

logger = logging.getLogger(__name__)


class ApprovalDecision(StrEnum):
    """What a person answered. `LATER` ends the run as `awaiting_approval`; the session keeps the question."""

    APPROVE = "approve"
    DENY = "deny"
    LATER = "later"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """One call that waits for a person: what it would do, and why somebody is asked.

    `digest` binds an approval to exactly these arguments; `arguments` is a copy, so showing or changing it
    cannot change the call. `tainted_arguments` names those that hold untrusted text word for word.
    """

    call_id: str
    tool_name: str
    arguments: Mapping[str, Any]
    effect: Effect
    reason: str
    digest: str
    tainted_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", copy.deepcopy(dict(self.arguments)))
        call = ToolCall(id=self.call_id, name=self.tool_name, arguments=self.arguments)
        if self.digest != call_digest(call):
            raise ConfigurationError(f"approval of call {self.call_id}: the digest is that of another call")


class Approver(Protocol):
    """Puts a request to a person. May be an async function, or a plain one, which runs in a worker thread."""

    def __call__(
        self, request: ApprovalRequest, /
    ) -> Awaitable[ApprovalDecision | bool] | ApprovalDecision | bool:
        """Return True or `ApprovalDecision.APPROVE` to let the call run, `LATER` to decide another time.

        Anything else, or an error, refuses it.
        """


def ask_later(request: ApprovalRequest) -> ApprovalDecision:  # an approver takes a request
    """Answer every request with `LATER`: for an application that decides by `Session.approve` or `deny`."""
    return ApprovalDecision.LATER


def deciding_now(approver: Approver | None) -> Approver | None:
    """Return an approver whose `LATER` is a no: for calls that nobody could go on with later."""
    if approver is None:
        return None

    async def decide(request: ApprovalRequest) -> bool:
        return await ask(approver, request) is ApprovalDecision.APPROVE

    return decide


def call_digest(call: ToolCall) -> str:
    """Return the SHA-256 of a call's name and arguments, independent of the order of names."""
    return hashlib.sha256(call.canonical().encode("utf-8", "surrogatepass")).hexdigest()


async def ask(approver: Approver | None, request: ApprovalRequest) -> ApprovalDecision:
    """Return what the approver says. No approver, an error, or an unclear answer means no."""
    if approver is None:
        return ApprovalDecision.DENY
    try:
        answer = await _answer(approver, request)
    except Exception as error:  # noqa: BLE001  # a broken approver refuses
        logger.warning("approver failed with %s; call %s is refused", type(error).__name__, request.call_id)
        return ApprovalDecision.DENY
    if answer is True:
        return ApprovalDecision.APPROVE
    return answer if isinstance(answer, ApprovalDecision) else ApprovalDecision.DENY


async def _answer(approver: Approver, request: ApprovalRequest) -> object:
    if _is_async(approver):
        answer: object = approver(request)
    else:
        answer = await anyio.to_thread.run_sync(approver, request, abandon_on_cancel=True)
    return await answer if inspect.isawaitable(answer) else answer


def _is_async(approver: Callable[..., object]) -> bool:
    call = getattr(type(approver), "__call__", None)  # noqa: B004  # not a test for being callable
    return inspect.iscoroutinefunction(approver) or inspect.iscoroutinefunction(call)
