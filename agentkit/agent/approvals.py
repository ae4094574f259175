"""Which calls of a step may run: what the policy, the tool, the journal and a person say. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from agentkit.agent.events import ApprovalRequested, EventSink
from agentkit.agent.logbook import Logbook
from agentkit.agent.open_turn import OpenTurn
from agentkit.agent.taint import Taint
from agentkit.cleared import Cleared
from agentkit.memory.journal import ApprovalAsked, ApprovalGiven
from agentkit.messages import ToolCall
from agentkit.shields.policy import Policy
from agentkit.tools.approval import ApprovalDecision, ApprovalRequest, Approver, ask, call_digest
from agentkit.tools.base import Effect, Tool
from agentkit.tools.toolset import Toolset

_REFUSED = "This call was not approved by a person, so it was not made. Go on without it."
_WITHHELD = "This call was withheld by the safety policy, so it was not made. Go on without it."
_GONE = "There is no such tool any more, so this call was not made. Go on without it."
_UNKNOWN = (
    "This call was interrupted and not made again. It may have taken effect; its result is not known. "
    "Say so, and do not repeat it."
)

ASKED = "the policy or the tool asks for approval"
TAINTED = "untrusted content is in the context"
COPIED = "the arguments hold text from untrusted content"
MAYBE_MADE = "this call was interrupted and may have been made already; approving makes it again"


@dataclass(slots=True, kw_only=True)
class Verdicts:
    """`refusals` are what the model reads instead of a result, by call id; a call that has none may run.

    `waiting` are the requests that nobody has decided. `unknown` are the ids of calls that an interrupted run
    may have made.
    """

    refusals: dict[str, str] = field(default_factory=dict)
    waiting: tuple[ApprovalRequest, ...] = ()
    unknown: frozenset[str] = frozenset()


class ApprovalDesk:
    """Decides about the calls of one turn, with the person whom the application names."""

    def __init__(
        self,
        *,
        toolset: Toolset,
        policy: Policy,
        approver: Approver | None,
        sink: EventSink,
        logbook: Logbook,
    ) -> None:
        self._toolset = toolset
        self._policy = policy
        self._approver = approver
        self._sink = sink
        self._logbook = logbook

    async def ask_all(
        self,
        calls: Sequence[Cleared[ToolCall]],
        withheld: frozenset[str],
        *,
        taint: Taint,
        known: OpenTurn | None,
    ) -> Verdicts:
        """Decide about every call, one after the other, before any of them runs."""
        verdicts = Verdicts(unknown=frozenset(self._unknown(calls, withheld, known)))
        waiting: list[ApprovalRequest] = []
        for call in calls:
            call_id = call.value.id
            if (obstacle := self._obstacle(call.value, withheld)) is not None:
                verdicts.refusals[call_id] = _UNKNOWN if call_id in verdicts.unknown else obstacle
                continue
            copied = taint.arguments(call.value)
            reason = self._reason(call.value, verdicts.unknown, tainted=taint.context, copied=copied)
            given = known.answer_to(call.value, again=call_id in verdicts.unknown) if known else None
            if reason is None and known is not None and call_id in known.asked:
                reason = known.asked[call_id].reason  # the question stands, whatever the policy says by now
            if reason is None and given is None:
                continue
            request = call.map(partial(self._request, reason=reason or ASKED, copied=copied))
            match given or await self._ask(request, known):
                case ApprovalDecision.APPROVE:
                    pass
                case ApprovalDecision.LATER:
                    waiting.append(request.value)
                case ApprovalDecision.DENY:
                    verdicts.refusals[call_id] = _UNKNOWN if call_id in verdicts.unknown else _REFUSED
        verdicts.waiting = tuple(waiting)
        return verdicts

    def _unknown(
        self, calls: Sequence[Cleared[ToolCall]], withheld: frozenset[str], known: OpenTurn | None
    ) -> list[str]:
        """Return the calls that were begun, have no result, and may not simply be made again."""
        intended = known.intended if known else {}
        return [
            call.value.id
            for call in calls
            if call.value.id in intended and not self._repeatable(call.value, withheld)
        ]

    def _repeatable(self, call: ToolCall, withheld: frozenset[str]) -> bool:
        if self._obstacle(call, withheld) is not None:
            return False
        tool = self._toolset.get(call.name)
        return tool.effect is Effect.READ or tool.idempotent

    def _obstacle(self, call: ToolCall, withheld: frozenset[str]) -> str | None:
        """Return why nobody can let a call run, or None. Between two runs an agent may lose a tool."""
        if call.id in withheld:
            return _WITHHELD
        return None if call.name in self._toolset else _GONE

    def _reason(
        self, call: ToolCall, unknown: frozenset[str], *, tainted: bool, copied: tuple[str, ...]
    ) -> str | None:
        """Return why a person has to be asked, or None."""
        if call.id in unknown:
            return MAYBE_MADE
        tool = self._toolset.get(call.name)
        rule = self._policy.approval_for(
            tool.name, tool.effect.value, tainted=tainted, tainted_arguments=bool(copied)
        )
        if "always" not in (rule, tool.approval):
            return None
        if copied:
            return COPIED
        return TAINTED if tainted else ASKED

    def _request(self, call: ToolCall, reason: str, copied: tuple[str, ...]) -> ApprovalRequest:
        return approval_request(call, self._toolset.get(call.name), reason, copied)

    async def _ask(self, request: Cleared[ApprovalRequest], known: OpenTurn | None) -> ApprovalDecision:
        """Ask the person; the question is on the disk before that, the answer with the next record."""
        asked = request.value
        if known is None or asked.call_id not in known.asked:
            await self._logbook.write(
                ApprovalAsked(call_id=asked.call_id, digest=asked.digest, reason=asked.reason)
            )
        await self._sink.emit(request.map(lambda value: ApprovalRequested(request=value)))
        answer = await ask(self._approver, asked)
        if answer is not ApprovalDecision.LATER:
            approved = answer is ApprovalDecision.APPROVE
            self._logbook.note(ApprovalGiven(call_id=asked.call_id, digest=asked.digest, approved=approved))
        return answer


def approval_request(
    call: ToolCall, tool: Tool, reason: str, tainted_arguments: tuple[str, ...]
) -> ApprovalRequest:
    """Return what a person is asked about a call."""
    return ApprovalRequest(
        call_id=call.id,
        tool_name=call.name,
        arguments=call.arguments,
        effect=tool.effect,
        reason=reason,
        digest=call_digest(call),
        tainted_arguments=tainted_arguments,
    )
