"""From the calls that a model asked for to their results: judged, approved, run, judged again."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from uuid import uuid4

from agentkit import telemetry
from agentkit.agent.events import ApprovalRequested, EventSink, ToolCallFinished, ToolCallStarted
from agentkit.agent.judge import Judge
from agentkit.agent.result import UsageMeter
from agentkit.cleared import Cleared
from agentkit.inference.formats.base import ParsedOutput, ParseIssue
from agentkit.messages import MODEL, Message, Origin, Provenance, Role, ToolCall
from agentkit.shields.base import Stage
from agentkit.shields.pipeline import WITHHELD_NOTE
from agentkit.shields.policy import Policy
from agentkit.tools.approval import ApprovalRequest, Approver, ask, call_digest
from agentkit.tools.base import Tool
from agentkit.tools.executor import Executor, ToolOutcome
from agentkit.tools.toolset import Toolset

_REFUSED = "This call was not approved by a person, so it was not made. Go on without it."
_INTERRUPTED = (
    "The turn ended while this call was being made. It may have taken effect; its result is not known."
)
_WITHHELD = "This call was withheld by the safety policy, so it was not made. Go on without it."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedStep:
    """The calls of one step as shields let them through.

    `refusals[i]` is what the model reads instead of running `calls[i]`, or None. `issues` are attempts that
    could not be read, and `attempt` the output that they stand in, None if a shield would change it. `changed`
    says that something here is no longer what the model wrote.
    """

    calls: tuple[Cleared[ToolCall], ...]
    refusals: tuple[str | None, ...]
    issues: tuple[ParseIssue, ...]
    attempt: Cleared[str] | None
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResults:
    """The answers to the calls of one step, in their order; `blocked` says that a result ended the run."""

    messages: tuple[Cleared[Message], ...]
    blocked: bool


class CallDesk:
    """Handles the calls of one turn."""

    def __init__(
        self,
        *,
        toolset: Toolset,
        executor: Executor,
        policy: Policy,
        approver: Approver | None,
        judge: Judge,
        sink: EventSink,
        meter: UsageMeter,
    ) -> None:
        self._toolset = toolset
        self._executor = executor
        self._policy = policy
        self._approver = approver
        self._judge = judge
        self._sink = sink
        self._meter = meter
        self.in_progress: tuple[tuple[Cleared[ToolCall], str | None], ...] = ()
        """The calls of the current step with their refusals, from before the first runs until results are in."""

    async def clear(self, parsed: ParsedOutput, *, raw_text: str) -> ClearedStep | None:
        """Judge every call, and every piece of code in one, before any of them runs; None if one is blocked."""
        calls: list[Cleared[ToolCall]] = []
        refusals: list[str | None] = []
        changed = False
        for parsed_call in parsed.calls:
            call = ToolCall(
                id=f"call_{uuid4().hex[:12]}", name=parsed_call.name, arguments=parsed_call.arguments
            )
            cleared = await self._clear_call(call)
            if cleared is None:
                return None
            calls.append(cleared)
            untouched = cleared.value is call
            changed = changed or not untouched
            refusals.append(None if untouched or cleared.value.arguments else _WITHHELD)
        attempt = None
        # What could not be read stays in the context as the model's words: it is judged as a call and as an answer.
        for stage in (Stage.TOOL_CALL, Stage.MODEL_OUTPUT) if parsed.issues else ():
            attempt = (await self._judge.judge(stage, raw_text, MODEL)).cleared
            if attempt is None:
                return None
            if attempt.value != raw_text:
                attempt, changed = None, True
                break
        return ClearedStep(
            calls=tuple(calls),
            refusals=tuple(refusals),
            issues=parsed.issues,
            attempt=attempt,
            changed=changed,
        )

    async def execute(self, step: ClearedStep, *, tainted: bool) -> StepResults:
        """Ask for the approvals that are due, run what may run, and judge every result."""
        refusals = [
            refusal if refusal is not None else await self._refusal(call, tainted=tainted)
            for call, refusal in zip(step.calls, step.refusals, strict=True)
        ]
        self.in_progress = tuple(zip(step.calls, refusals, strict=True))
        outcomes = iter(await self._run([call for call, refusal in self.in_progress if refusal is None]))
        answers = [
            await self._result(call, next(outcomes) if refusal is None else None, refusal or "")
            for call, refusal in self.in_progress
        ]
        answers += [await self._correction(issue) for issue in step.issues]
        self.in_progress = ()
        return StepResults(
            messages=tuple(message for message, _ in answers), blocked=any(hit for _, hit in answers)
        )

    def interrupted(self) -> list[Cleared[Message]]:
        """Return the answers to the calls of a step that ended in the middle of running them."""
        return [call.map(_answer_with(refusal or _INTERRUPTED)) for call, refusal in self.in_progress]

    async def _clear_call(self, call: ToolCall) -> Cleared[ToolCall] | None:
        """Judge a call; what comes back is the call itself, a redacted one, one without arguments, or None."""
        written = call.canonical()
        decision = await self._judge.judge(Stage.TOOL_CALL, written, MODEL)
        if decision.cleared is None:
            return None
        cleared = decision.cleared.map(lambda text: call if text == written else _reread(call, text))
        for code, language in self._code_of(cleared.value):
            decision = await self._judge.judge(Stage.CODE, code, MODEL, language=language)
            if decision.cleared is None:
                return None
            if decision.cleared.value != code:
                return decision.cleared.map(lambda _: _emptied(call))
        return cleared

    def _code_of(self, call: ToolCall) -> list[tuple[str, str]]:
        languages = self._toolset.get(call.name).code_arguments
        return [
            (call.arguments[argument], language)
            for argument, language in languages.items()
            if isinstance(call.arguments.get(argument), str)
        ]

    async def _refusal(self, call: Cleared[ToolCall], *, tainted: bool) -> str | None:
        """Return None if the call may run: no approval is due, or a person gave it."""
        tool = self._toolset.get(call.value.name)
        rule = self._policy.approval_for(tool.name, tool.effect.value, tainted=tainted)
        if "always" not in (rule, tool.approval):
            return None
        request = call.map(lambda value: _approval_request(value, tool, tainted=tainted))
        await self._sink.emit(request.map(lambda value: ApprovalRequested(request=value)))
        return None if await ask(self._approver, request.value) else _REFUSED

    async def _run(self, calls: list[Cleared[ToolCall]]) -> tuple[ToolOutcome, ...]:
        if not calls:
            return ()
        started = perf_counter()
        for call in calls:
            await self._sink.emit(call.map(_started))
        names = ",".join(call.value.name for call in calls)
        with telemetry.span(telemetry.SPAN_TOOL, **{telemetry.ATTR_TOOL: names}):
            outcomes = await self._executor.run_all(calls)
        self._meter.tool_seconds += perf_counter() - started
        return outcomes

    async def _result(
        self, call: Cleared[ToolCall], outcome: ToolOutcome | None, refusal: str
    ) -> tuple[Cleared[Message], bool]:
        """Judge what the model is to read as the result; the flag says that it was blocked."""
        tool = self._toolset.get(call.value.name)
        provenance = Provenance(origin=Origin.TOOL, source=tool.name, trusted=outcome is None or tool.trusted)
        text = refusal if outcome is None else outcome.content
        decision = await self._judge.judge(Stage.TOOL_RESULT, text, provenance)
        content = decision.cleared or self._judge.vouch(WITHHELD_NOTE)
        await self._sink.emit(content.map(lambda value: _finished(call.value, outcome, value)))
        message = content.map(lambda value: Message.tool(value, call=call.value, trusted=provenance.trusted))
        return message, decision.blocked

    async def _correction(self, issue: ParseIssue) -> tuple[Cleared[Message], bool]:
        text = f"{issue.message}. {issue.hint}"
        provenance = Provenance(origin=Origin.TOOL, trusted=True)
        decision = await self._judge.judge(Stage.TOOL_RESULT, text, provenance)
        content = decision.cleared or self._judge.vouch(WITHHELD_NOTE)
        message = content.map(lambda value: Message(role=Role.TOOL, content=value, provenance=provenance))
        return message, decision.blocked


def _reread(call: ToolCall, text: str) -> ToolCall:
    """Read a call that a shield redacted; one that is no longer a call keeps its name alone."""
    try:
        arguments: Any = json.loads(text)["arguments"]
    except (ValueError, KeyError, TypeError):
        return _emptied(call)
    return (
        ToolCall(id=call.id, name=call.name, arguments=arguments)
        if isinstance(arguments, dict)
        else _emptied(call)
    )


def _emptied(call: ToolCall) -> ToolCall:
    return ToolCall(id=call.id, name=call.name, arguments={})


def _approval_request(call: ToolCall, tool: Tool, *, tainted: bool) -> ApprovalRequest:
    reason = "untrusted content is in the context" if tainted else "the policy or the tool asks for approval"
    return ApprovalRequest(
        call_id=call.id,
        tool_name=call.name,
        arguments=call.arguments,
        effect=tool.effect,
        reason=reason,
        digest=call_digest(call),
    )


def _answer_with(note: str) -> Callable[[ToolCall], Message]:
    return lambda call: Message.tool(note, call=call)


def _started(call: ToolCall) -> ToolCallStarted:
    # A copy: whoever changes the event must not change the call.
    return ToolCallStarted(call_id=call.id, name=call.name, arguments=deepcopy(dict(call.arguments)))


def _finished(call: ToolCall, outcome: ToolOutcome | None, content: str) -> ToolCallFinished:
    return ToolCallFinished(
        call_id=call.id,
        name=call.name,
        status="refused" if outcome is None else outcome.status.value,
        content=content,
        seconds=0.0 if outcome is None else outcome.seconds,
    )
