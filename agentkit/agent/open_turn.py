"""A turn that has not ended, as its journal tells it. Knows no model, no shield and no store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from agentkit.errors import StoreError
from agentkit.inference.base import Usage
from agentkit.memory.journal import (
    ApprovalAsked,
    ApprovalGiven,
    CallFinished,
    CallIntended,
    DecisionMade,
    InputAccepted,
    JournalRecord,
    StepGenerated,
)
from agentkit.memory.transcript import Entry, StoredEntry
from agentkit.messages import ToolCall
from agentkit.shields.decision import Decision
from agentkit.tools.approval import ApprovalDecision, call_digest


@dataclass(slots=True, kw_only=True)
class OpenTurn:
    """What is known of the turn: whoever resumes it goes on from here.

    `intended` are calls that were begun, by id; those that are not in `finished` have an unknown outcome. `answered`
    are a person's answers by call id and digest, `spent` those from before the call was begun. `decisions` are what
    shields decided so far.
    """

    accepted: InputAccepted
    steps: list[StepGenerated] = field(default_factory=list)
    intended: dict[str, CallIntended] = field(default_factory=dict)
    finished: dict[str, CallFinished] = field(default_factory=dict)
    asked: dict[str, ApprovalAsked] = field(default_factory=dict)
    answered: dict[tuple[str, str], bool] = field(default_factory=dict)
    spent: dict[tuple[str, str], bool] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)

    @classmethod
    def read(cls, journal: Sequence[JournalRecord], *, session_id: str) -> OpenTurn | None:
        """Return the turn that a journal is about; None if it is empty.

        Raises:
            StoreError: if it is not the journal of one turn.
        """
        if not journal:
            return None
        inputs = [record for record in journal if isinstance(record, InputAccepted)]
        # Decisions about an input are written with it, and may come before it.
        first = next((record for record in journal if not isinstance(record, DecisionMade)), None)
        if len(inputs) != 1 or first is not inputs[0]:
            raise StoreError(
                f"the journal of session {session_id!r} is not that of one turn: it has {len(inputs)} inputs and "
                f"begins with {type(first or journal[0]).__name__}; restore a backup or delete the session"
            )
        turn = cls(accepted=inputs[0])
        for record in journal:
            turn.add(record)
        return turn

    def add(self, record: JournalRecord) -> None:
        """Take the next record."""
        match record:
            case StepGenerated():
                self.steps.append(record)
            case CallIntended():
                self.intended[record.call_id] = record
                self.asked.pop(record.call_id, None)
                key = (record.call_id, record.digest)
                if key in self.answered:
                    self.spent[key] = self.answered.pop(key)
            case CallFinished():
                self.finished[record.call_id] = record
            case ApprovalAsked():
                self.asked[record.call_id] = record
            case ApprovalGiven():
                self.answered[record.call_id, record.digest] = record.approved
            case DecisionMade():
                self.decisions.append(_decision(record))
            case InputAccepted():
                self.accepted = record
            case _:
                assert_never(record)

    @property
    def entries(self) -> list[Entry | StoredEntry]:
        """All that the turn has put into the transcript, in order."""
        entries = list(self.accepted.entries)
        answers = list(self.finished.values())
        for step in self.steps:
            entries.append(step.entry)
            ids = set(step_ids(step))
            entries += [answer.entry for answer in answers if answer.call_id in ids]
        return entries

    def answer_to(self, call: ToolCall, *, again: bool) -> ApprovalDecision | None:
        """Return what a person said about exactly this call; for one that would be made `again`, since it was begun."""
        key = (call.id, call_digest(call))
        approved = self.answered.get(key)
        if approved is None and not again:
            approved = self.spent.get(key)
        if approved is None:
            return None
        return ApprovalDecision.APPROVE if approved else ApprovalDecision.DENY

    @property
    def waiting(self) -> list[ApprovalAsked]:
        """The questions that nobody has answered."""
        return [asked for key, asked in self.asked.items() if (key, asked.digest) not in self.answered]

    @property
    def usage(self) -> Usage:
        """What the steps have cost so far."""
        total = Usage()
        for step in self.steps:
            total += Usage(**step.usage)  # type: ignore[arg-type]  # counts are integers, seconds floats
        return total

    @property
    def tool_calls(self) -> int:
        """How many calls were asked for, attempts that could not be read included."""
        return sum(len(step_ids(step)) for step in self.steps)

    @property
    def blocked(self) -> bool:
        """Whether an answer was blocked, which ends the turn."""
        return any(answer.blocked for answer in self.finished.values())

    @property
    def last_step_is_whole(self) -> bool:
        """Whether everything that the last step asked for has its answer; True before the first step."""
        return not self.steps or all(key in self.finished for key in step_ids(self.steps[-1]))


def _decision(record: DecisionMade) -> Decision:
    try:
        return Decision.from_json(record.decision, decision_id=record.decision["id"])
    except (KeyError, ValueError, TypeError) as exc:
        raise StoreError(
            "a journal holds a decision that cannot be read; restore a backup or delete the session"
        ) from exc


def correction_ids(step: StepGenerated) -> list[str]:
    """Return the names under which the corrections of a step are journaled; a correction answers no call."""
    return [f"{step.entry.message_id}/correction/{index}" for index in range(len(step.corrections))]


def calls_in(step: StepGenerated) -> tuple[ToolCall, ...]:
    """Return the calls of a step, as they were journaled."""
    message = step.entry.message.value if isinstance(step.entry, Entry) else step.entry.message
    return message.tool_calls


def step_ids(step: StepGenerated) -> list[str]:
    """Return what a step waits for, in order: the ids of its calls, then of its corrections."""
    return [call.id for call in calls_in(step)] + correction_ids(step)
