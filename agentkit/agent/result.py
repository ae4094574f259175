"""What a run came to. Blocked is a value here, never an exception unless the caller asks for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentkit.errors import BlockedError
from agentkit.inference.base import MissReason, Usage
from agentkit.messages import Message
from agentkit.shields.decision import Decision
from agentkit.tools.approval import ApprovalRequest


class RunStatus(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    BLOCKED = "blocked"
    AWAITING_APPROVAL = "awaiting_approval"
    LIMIT_REACHED = "limit_reached"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUsage:
    """What a run cost: tokens are counts over all steps, times are seconds.

    `input_tokens = cached_tokens + prefilled_tokens`. `shield_tokens` were prefilled by shields that use a model.
    Where a step had to prefill more than was new to the cache, `miss_at` is the index of its first such token
    and `miss_reason` says why; of several steps, the first. `stop_tokens` are the special tokens with which the
    model ended its outputs, in their order: None for one that was cut short.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    output_tokens: int = 0
    shield_tokens: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    shield_seconds: float = 0.0
    tool_seconds: float = 0.0
    total_seconds: float = 0.0
    miss_at: int | None = None
    miss_reason: MissReason | None = None
    stop_tokens: tuple[str | None, ...] = ()

    @property
    def cached_share(self) -> float:
        """The part of the input that the KV cache held already, in [0, 1]."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0


@dataclass(slots=True)
class UsageMeter:
    """Adds up the usage of one run while it goes on."""

    engine: Usage = field(default_factory=Usage)
    shield_tokens: int = 0
    shield_seconds: float = 0.0
    tool_seconds: float = 0.0
    stop_tokens: list[str | None] = field(default_factory=list)

    def add(self, other: UsageMeter) -> None:
        """Add what the run of a sub-agent cost; its tools' seconds are within those of the tool that it is."""
        self.engine += other.engine
        self.shield_tokens += other.shield_tokens
        self.shield_seconds += other.shield_seconds

    def total(self, *, seconds: float) -> RunUsage:
        """Return the sums as one value."""
        return RunUsage(
            input_tokens=self.engine.prompt_tokens,
            cached_tokens=self.engine.cached_tokens,
            prefilled_tokens=self.engine.prefilled_tokens,
            output_tokens=self.engine.output_tokens,
            shield_tokens=self.shield_tokens,
            queue_seconds=self.engine.queue_seconds,
            prefill_seconds=self.engine.prefill_seconds,
            decode_seconds=self.engine.decode_seconds,
            shield_seconds=self.shield_seconds,
            tool_seconds=self.tool_seconds,
            total_seconds=seconds,
            miss_at=self.engine.miss_at,
            miss_reason=self.engine.miss_reason,
            stop_tokens=tuple(self.stop_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The outcome of one run.

    `output` is the answer's text, or an instance of the run's `output_type`; None unless the run completed.
    `messages` are the messages that this run added to the session. `limit` names the limit that was met.
    `truncated` says that the answer ended at `max_tokens` rather than where the model would have ended it.
    `approvals` are the calls that a run with status `awaiting_approval` waits for.
    """

    status: RunStatus
    output: Any
    messages: tuple[Message, ...]
    decisions: tuple[Decision, ...]
    usage: RunUsage
    limit: str | None = None
    truncated: bool = False
    approvals: tuple[ApprovalRequest, ...] = ()

    @property
    def blocked_by(self) -> Decision | None:
        """The decision that ended a blocked run."""
        if self.status is not RunStatus.BLOCKED:
            return None
        return next((decision for decision in reversed(self.decisions) if decision.blocked), None)

    def raise_if_blocked(self) -> RunResult:
        """Return the result itself unless it was blocked.

        Raises:
            BlockedError: with stage, shield and category of the block.
        """
        decision = self.blocked_by
        if decision is None:
            return self
        raise BlockedError(
            f"blocked at stage {decision.stage.value} by shield {decision.shield or 'unknown'}"
            + (f" ({decision.category})" if decision.category else ""),
            stage=decision.stage.value,
            shield=decision.shield,
            category=decision.category,
        )
