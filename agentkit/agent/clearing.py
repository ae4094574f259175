"""The calls that a model asked for, judged before any of them runs. Runs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentkit.agent.judge import Judge
from agentkit.agent.open_turn import OpenTurn, calls_in
from agentkit.cleared import Cleared
from agentkit.inference.formats.base import ParsedOutput
from agentkit.memory.transcript import Transcript
from agentkit.messages import MODEL, Message, Origin, Provenance, ToolCall
from agentkit.shields.base import Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import WITHHELD_NOTE
from agentkit.tools.toolset import Toolset

CORRECTION = Provenance(origin=Origin.TOOL, trusted=True)
"""What the model is told about an attempt at a call is in the SDK's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedStep:
    """What one step asked for, as shields let it through.

    `withheld` are the ids of calls that shields changed beyond use: they are answered, not made. `corrections`
    answer attempts that could not be read, and `attempt` is the output that these stand in, None if a shield
    would change it. `changed` says that something here is no longer what the model wrote. `decision_ids` name
    the decisions that let the calls and the attempt through.
    """

    calls: tuple[Cleared[ToolCall], ...]
    withheld: frozenset[str]
    corrections: tuple[Cleared[str], ...]
    attempt: Cleared[str] | None
    changed: bool
    decision_ids: tuple[str, ...]


class Clearing:
    """Judges calls at stage `tool_call`, the code in them at stage `code`, and corrections as tool results."""

    def __init__(self, judge: Judge, toolset: Toolset) -> None:
        self._judge = judge
        self._toolset = toolset

    async def clear(
        self, parsed: ParsedOutput, *, raw_text: str, call_ids: Sequence[str]
    ) -> ClearedStep | None:
        """Judge all that an output asked for; None if some of it is blocked. `call_ids` name the calls."""
        decisions: list[Decision] = []
        calls: list[Cleared[ToolCall]] = []
        withheld: set[str] = set()
        changed = False
        for call_id, parsed_call in zip(call_ids, parsed.calls, strict=True):
            call = ToolCall(id=call_id, name=parsed_call.name, arguments=parsed_call.arguments)
            cleared = await self._clear_call(call, decisions)
            if cleared is None:
                return None
            calls.append(cleared)
            if cleared.value is not call:
                changed = True
                if not cleared.value.arguments:
                    withheld.add(call.id)
        attempt = None
        # What could not be read stays in the context as the model's words: it is judged as a call and as an answer.
        for stage in (Stage.TOOL_CALL, Stage.MODEL_OUTPUT) if parsed.issues else ():
            decision = await self._judge.judge(stage, raw_text, MODEL)
            decisions.append(decision)
            attempt = decision.cleared
            if attempt is None:
                return None
            if attempt.value != raw_text:
                attempt, changed = None, True
                break
        corrections: list[Cleared[str]] = []
        for issue in parsed.issues:
            decision = await self._judge.judge(
                Stage.TOOL_RESULT, f"{issue.message}. {issue.hint}", CORRECTION
            )
            if decision.cleared is None:
                return None
            corrections.append(decision.cleared)
        return ClearedStep(
            calls=tuple(calls),
            withheld=frozenset(withheld),
            corrections=tuple(corrections),
            attempt=attempt,
            changed=changed,
            decision_ids=tuple(decision.id for decision in decisions),
        )

    def calls_of(self, known: OpenTurn, transcript: Transcript) -> tuple[Cleared[ToolCall], ...]:
        """Return the calls of the last step of a journal, as the transcript holds them: cleared as memory."""
        last = known.steps[-1].entry.message_id
        said = next(entry.message for entry in transcript.entries if entry.message_id == last)
        return tuple(said.map(partial(_call, index=i)) for i in range(len(said.value.tool_calls)))

    async def step_again(self, known: OpenTurn, transcript: Transcript) -> ClearedStep:
        """Return the last step of a journal, judged anew as far as it is still to be answered.

        A call that shields do not let through exactly as it was is answered, not made.
        """
        last = known.steps[-1]
        calls = self.calls_of(known, transcript)
        withheld = set(last.withheld)
        for call, written in zip(calls, calls_in(last), strict=True):
            if written.id not in known.finished and written.id not in withheld:
                cleared = await self._clear_call(call.value, []) if call.value == written else None
                if cleared is None or cleared.value is not call.value:
                    withheld.add(written.id)
        return ClearedStep(
            calls=calls,
            withheld=frozenset(withheld),
            corrections=tuple([await self._correction(str(text)) for text in last.corrections]),
            attempt=None,
            changed=False,
            decision_ids=(),
        )

    async def _correction(self, text: str) -> Cleared[str]:
        """Judge a correction that a journal holds; what shields withhold or block becomes a neutral note."""
        decision = await self._judge.judge(Stage.TOOL_RESULT, text, CORRECTION)
        return decision.cleared or self._judge.vouch(WITHHELD_NOTE)

    async def _clear_call(self, call: ToolCall, decisions: list[Decision]) -> Cleared[ToolCall] | None:
        """Judge a call; what comes back is the call itself, a redacted one, one without arguments, or None."""
        written = call.canonical()
        decision = await self._judge.judge(Stage.TOOL_CALL, written, MODEL)
        decisions.append(decision)
        if decision.cleared is None:
            return None
        cleared = decision.cleared.map(lambda text: call if text == written else _reread(call, text))
        for code, language in self._code_of(cleared.value):
            decision = await self._judge.judge(Stage.CODE, code, MODEL, language=language)
            decisions.append(decision)
            if decision.cleared is None:
                return None
            if decision.cleared.value != code:
                return decision.cleared.map(lambda _: _emptied(call))
        return cleared

    def _code_of(self, call: ToolCall) -> list[tuple[str, str]]:
        if call.name not in self._toolset:
            return []  # it cannot be made any more
        languages = self._toolset.get(call.name).code_arguments
        return [
            (call.arguments[argument], language)
            for argument, language in languages.items()
            if isinstance(call.arguments.get(argument), str)
        ]


def _call(message: Message, *, index: int) -> ToolCall:
    return message.tool_calls[index]


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
