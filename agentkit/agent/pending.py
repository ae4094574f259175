"""What an unfinished turn waits for, and how to end it without going on. Runs nothing."""

from __future__ import annotations

from functools import partial

from agentkit.agent.approvals import approval_request
from agentkit.agent.audit import turn_ended
from agentkit.agent.calls import unanswered_note
from agentkit.agent.history import SessionHistory
from agentkit.agent.open_turn import OpenTurn, calls_in
from agentkit.agent.runtime import Runtime
from agentkit.agent.taint import Taint
from agentkit.agent.writer import Writer
from agentkit.memory.audit import AuditEvent
from agentkit.memory.journal import ApprovalAsked
from agentkit.memory.store import StoredSession
from agentkit.memory.transcript import Entry, Mark
from agentkit.messages import Message
from agentkit.tools.approval import ApprovalRequest
from agentkit.tools.toolset import Toolset


def waiting_calls(stored: StoredSession | None) -> dict[str, ApprovalAsked]:
    """Return the questions of a stored session that nobody has answered, by call id."""
    turn = OpenTurn.read(stored.journal, session_id=stored.id) if stored else None
    return {asked.call_id: asked for asked in turn.waiting} if turn else {}


def waiting_requests(history: SessionHistory, toolset: Toolset) -> tuple[ApprovalRequest, ...]:
    """Return the same questions with the calls that they are about, as the transcript holds them.

    A call of a tool that is gone waits for nobody: it cannot be made.
    """
    turn = history.open_turn
    if turn is None:
        return ()
    calls = {call.id: call for message in history.transcript.messages for call in message.tool_calls}
    taint = Taint(history.transcript)
    waiting = [(calls[asked.call_id], asked.reason) for asked in turn.waiting if asked.call_id in calls]
    return tuple(
        approval_request(call, toolset.get(call.name), reason, taint.arguments(call))
        for call, reason in waiting
        if call.name in toolset
    )


def abandon(runtime: Runtime, history: SessionHistory, turn: OpenTurn) -> AuditEvent:
    """End the unfinished turn in the transcript: after its last whole step, or after a step that has begun.

    Calls of such a step that have no answer get one that says whether they may have been made. Returns what the
    audit log is to be told.
    """
    before = turn_start(history)
    if turn.last_step_is_whole or not _has_begun(turn):
        history.transcript.rewind(settled_mark(history))
    else:
        _answer_what_is_left(runtime, history, turn)
    return turn_ended(
        turn.accepted.turn_key,
        "abandoned",
        entries=history.transcript.entries[before.num_entries :],
        decisions=turn.decisions,
        policy_digest=runtime.setup.policy.digest,
    )


def _answer_what_is_left(runtime: Runtime, history: SessionHistory, turn: OpenTurn) -> None:
    writer = Writer(history.transcript, history.format, runtime.tools, runtime.engine.tokenizer)
    entry = _entry_of_last_step(history, turn)
    for call in entry.message.value.tool_calls:
        if call.id not in turn.finished:
            note = unanswered_note(call, maybe_made=call.id in turn.intended)
            writer.append(entry.message.map(partial(_instead, note)))


def settled_mark(history: SessionHistory) -> Mark:
    """Return where the unfinished turn may end: its start, or the end of its last step that has all its answers."""
    turn = history.open_turn
    if turn is None:
        return history.transcript.mark()
    if turn.steps and turn.last_step_is_whole:
        return history.transcript.mark()
    if len(turn.steps) > 1:
        end = history.transcript.entries.index(_entry_of_last_step(history, turn))
        return Mark(num_entries=end, turn=turn.accepted.turn)
    return turn_start(history)


def turn_start(history: SessionHistory) -> Mark:
    """Return the point before the unfinished turn, or the transcript's end where there is none."""
    if history.open_turn is None:
        return history.transcript.mark()
    turn = history.open_turn.accepted.turn
    earlier = sum(entry.turn < turn for entry in history.transcript.entries)
    return Mark(num_entries=earlier, turn=turn - 1)


def _instead(note: Message, _call: Message) -> Message:
    return note


def _has_begun(turn: OpenTurn) -> bool:
    """Whether a call of the last step was answered, or may have been made."""
    return any(call.id in turn.intended or call.id in turn.finished for call in calls_in(turn.steps[-1]))


def _entry_of_last_step(history: SessionHistory, turn: OpenTurn) -> Entry:
    last = turn.steps[-1].entry.message_id
    return next(entry for entry in history.transcript.entries if entry.message_id == last)
