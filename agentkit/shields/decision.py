"""What the pipeline concluded about one piece of content, and why. Quotes nothing of the content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from agentkit.cleared import Cleared
from agentkit.shields.base import Action, Finding, Stage


class OutcomeStatus(StrEnum):
    """How one shield's check ended."""

    PASS = "pass"  # noqa: S105  # a status, not a password
    HIT = "hit"
    ERROR = "error"
    TIMEOUT = "timeout"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The strictest of all outcomes, and the content as far as it was cleared.

    `cleared` holds the text unchanged (`allow`, `annotate`), without its findings (`redact`) or a neutral note
    (`withhold`). It is None when `action` is `block`, and in the record that a run keeps of a decision.
    `deciding` is the outcome that led here, None when every shield passed. When a person was asked, `escalation`
    says what they answered: released content goes on under the next strictest action, refused content is blocked;
    `action` is never `escalate`. `findings` are the spans of the judged text that were redacted, merged and in
    order; empty unless `redact`.
    """

    stage: Stage
    action: Action
    outcomes: tuple[Outcome, ...]
    content_digest: str
    cleared: Cleared[str] | None
    deciding: Outcome | None = None
    escalation: Escalation | None = None
    findings: tuple[Finding, ...] = ()

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
