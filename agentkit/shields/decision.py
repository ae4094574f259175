"""What the pipeline concluded about one piece of content, and why. Quotes nothing of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeAlias

from agentkit.cleared import Cleared
from agentkit.shields.base import Action, Finding, Stage


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text in hex: how records name content without holding it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class OutcomeStatus(StrEnum):
    """How one shield's check ended."""

    PASS = "pass"  # noqa: S105  # a status, not a password
    HIT = "hit"
    ERROR = "error"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"


class Escalation(StrEnum):
    """What the person said who was asked. `REFUSED` also when there was nobody to ask."""

    RELEASED = "released"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one shield said, and the action that follows from it. A shadow outcome decides nothing."""

    shield: str
    status: OutcomeStatus
    action: Action
    score: float | None = None
    threshold: float | None = None
    category: str | None = None
    reason: str | None = None
    milliseconds: float = 0.0
    shadow: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return {
            "shield": self.shield,
            "status": self.status.value,
            "action": self.action.value,
            "score": self.score,
            "threshold": self.threshold,
            "category": self.category,
            "reason": self.reason,
            "milliseconds": self.milliseconds,
            "shadow": self.shadow,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read an outcome written by `to_json`.

        Raises:
            KeyError, ValueError, TypeError: if the data is no outcome.
        """
        enums = {"status": OutcomeStatus(data["status"]), "action": Action(data["action"])}
        return cls(**{**data, **enums})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The strictest of all outcomes, and the content as far as it was cleared.

    `cleared` holds the text unchanged (`allow`, `annotate`), without its findings (`redact`) or a neutral note
    (`withhold`). It is None when `action` is `block`, and in the record that a run keeps of a decision.
    `deciding` is the outcome that led here, None when every shield passed. When a person was asked, `escalation`
    says what they answered: released content goes on under the next strictest action, refused content is blocked;
    `action` is never `escalate`. `findings` are the spans of the judged text that were redacted, merged and in
    order; empty unless `redact`. `id` is given by whoever keeps the decision, "" before that.
    """

    stage: Stage
    action: Action
    outcomes: tuple[Outcome, ...]
    content_digest: str
    cleared: Cleared[str] | None
    deciding: Outcome | None = None
    escalation: Escalation | None = None
    findings: tuple[Finding, ...] = ()
    id: str = ""

    def __post_init__(self) -> None:
        if self.cleared is not None and self.action is Action.BLOCK:
            raise TypeError("a decision that blocks has no cleared content")

    @property
    def blocked(self) -> bool:
        """Whether the content goes nowhere."""
        return self.action is Action.BLOCK

    @property
    def shield(self) -> str | None:
        """The shield that decided; None when every shield passed."""
        return self.deciding.shield if self.deciding else None

    @property
    def category(self) -> str | None:
        """What the deciding shield found."""
        return self.deciding.category if self.deciding else None

    @property
    def reason(self) -> str | None:
        """Why, in the deciding shield's words; never quotes the content."""
        return self.deciding.reason if self.deciding else None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain JSON values, without the content."""
        return {
            "stage": self.stage.value,
            "action": self.action.value,
            "blocked": self.blocked,
            "shield": self.shield,
            "category": self.category,
            "reason": self.reason,
            "escalation": self.escalation.value if self.escalation else None,
            "content_digest": self.content_digest,
            "findings": [
                {"start": found.start, "end": found.end, "label": found.label} for found in self.findings
            ],
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, decision_id: str) -> Self:
        """Read the record of a decision, written by `to_json`; it clears nothing.

        Raises:
            KeyError, ValueError, TypeError: if the data is no decision.
        """
        outcomes = tuple(Outcome.from_json(outcome) for outcome in data["outcomes"])
        said = (data["shield"], data["category"], data["reason"])
        enforced = [outcome for outcome in outcomes if not outcome.shadow]
        return cls(
            stage=Stage(data["stage"]),
            action=Action(data["action"]),
            outcomes=outcomes,
            content_digest=data["content_digest"],
            cleared=None,
            deciding=next((one for one in enforced if (one.shield, one.category, one.reason) == said), None),
            escalation=None if data["escalation"] is None else Escalation(data["escalation"]),
            findings=tuple(Finding(**found) for found in data["findings"]),
            id=decision_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRequest:
    """What a person is asked to release. `text` is the content itself: show it, never log it."""

    stage: Stage
    shield: str
    category: str | None
    reason: str | None
    content_digest: str
    text: str = field(repr=False)


Ask: TypeAlias = Callable[[EscalationRequest], Awaitable[bool]]
"""Asks a person: True releases the content; anything else, and any exception, blocks it."""
