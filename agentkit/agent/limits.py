"""What one run may spend. Knows no loop: it counts, and says which limit was met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentkit.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one run and its sub-agents together. None means unbounded, except by the model's context.

    `steps` counts generations; `tokens` counts prefilled and generated tokens (cached ones are free; a step that
    begins is prefilled whole);
    `seconds` is wall-clock time; `tool_calls` counts calls asked for, refused ones included; `calls_per_step` is
    how many of them the model may ask for at once, which small models do without need.
    """

    steps: int = 8
    tokens: int | None = 20_000
    seconds: float | None = 300.0
    tool_calls: int = 16
    calls_per_step: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigurationError(f"limits.steps must be at least 1, got {self.steps!r}")
        if self.tokens is not None and self.tokens < 1:
            raise ConfigurationError(f"limits.tokens must be at least 1 or None, got {self.tokens!r}")
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigurationError(f"limits.seconds must be above 0 or None, got {self.seconds!r}")
        if self.tool_calls < 0:
            raise ConfigurationError(f"limits.tool_calls must be at least 0, got {self.tool_calls!r}")
        if self.calls_per_step < 1:
            raise ConfigurationError(f"limits.calls_per_step must be at least 1, got {self.calls_per_step!r}")


@dataclass(slots=True)
class Budget:
    """What is left of the limits of one run. What a sub-agent's run spends, it spends of its `parent` too."""

    limits: Limits
    parent: Budget | None = None
    steps: int = 0
    sub_agent_steps: int = 0
    tokens: int = 0
    tool_calls: int = 0

    def exceeded(self) -> str | None:
        """Name the limit that allows no further step, or None."""
        if self.steps + self.sub_agent_steps >= self.limits.steps:
            return "steps"
        if self.limits.tokens is not None and self.tokens >= self.limits.tokens:
            return "tokens"
        return self.parent.exceeded() if self.parent is not None else None

    def begin_step(self) -> int:
        """Count a step; return how many of its own the run has begun before."""
        self.steps += 1
        for above in self._above():
            above.sub_agent_steps += 1
        return self.steps - 1

    def spend(self, tokens: int) -> None:
        """Count tokens."""
        for budget in (self, *self._above()):
            budget.tokens += tokens

    def max_output(self, wanted: int) -> int:
        """Return how many tokens the next step may generate: at most `wanted`, at least 1."""
        left = [
            budget.limits.tokens - budget.tokens
            for budget in (self, *self._above())
            if budget.limits.tokens is not None
        ]
        return max(1, min(wanted, *left)) if left else wanted

    def allows_calls(self, count: int) -> bool:
        """Say whether `count` more tool calls fit, and count them if so."""
        budgets = (self, *self._above())
        if any(budget.tool_calls + count > budget.limits.tool_calls for budget in budgets):
            return False
        for budget in budgets:
            budget.tool_calls += count
        return True

    def _above(self) -> Iterator[Budget]:
        above = self.parent
        while above is not None:
            yield above
            above = above.parent
