"""What a shield is: stages, what it is given, the verdict it gives. Knows no policy and no concrete shield."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agentkit.cleared import Held
from agentkit.errors import ShieldError
from agentkit.messages import Message, Provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Stage(StrEnum):
    """Where in a turn content is judged."""

    USER_INPUT = "user_input"
    TOOL_DESCRIPTION = "tool_description"
    TOOL_CALL = "tool_call"
    CODE = "code"
    TOOL_RESULT = "tool_result"
    MEMORY = "memory"
    MODEL_OUTPUT = "model_output"


class Action(StrEnum):
    """What the policy does on a hit, from the mildest to the strictest: the strictest of a stage counts."""

    ALLOW = "allow"
    ANNOTATE = "annotate"
    REDACT = "redact"
    WITHHOLD = "withhold"
    ESCALATE = "escalate"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """0 for `allow`, rising to `block`."""
        return list(Action).index(self)


class SharedStates(Protocol):
    """Hidden states of a text's own tokens, from the prefill that the agent's engine does of it anyway."""

    @property
    def fingerprint(self) -> str:
        """What tells the engine's model from every other."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Of which layers: 0 is the embedding, `n` the output of the n-th."""

    async def receive(self) -> NDArray[np.float32] | None:
        """Wait for the states, (tokens, layers, hidden_size); None if the prefill was not completed."""


Meanwhile = Callable[[Held[str], Sequence[int]], SharedStates | None]
"""Begins what may be done with a text while shields still judge it, which want the states of these layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShieldInput:
    """One piece of content to judge, and what a shield may look at beside it.

    `history` is the conversation before this content, oldest first. `language` is set at stage `code` where
    the caller knows it (`python`). `scope` is whose content it is: what a shield caches of it is for that scope alone.
    `states` are there where the agent's engine computes on the text while it is judged.
    """

    text: str
    stage: Stage
    provenance: Provenance
    history: tuple[Message, ...] = ()
    language: str | None = None
    scope: str = ""
    states: SharedStates | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Where in the text something was found: character offsets `[start, end)`, and a label for it."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a shield concluded.

    `score` is in [0, 1] where the shield has one. `category` and `reason` never quote the content. `judged` is
    False where the content is nothing that the shield can judge: then it is not flagged, and recorded as skipped.
    """

    flagged: bool
    score: float | None = None
    threshold: float | None = None
    category: str | None = None
    reason: str | None = None
    findings: tuple[Finding, ...] = ()
    judged: bool = True

    def __post_init__(self) -> None:
        # `is` checks: a shield that answers "yes" or NaN has not reached a verdict.
        if self.flagged is not True and self.flagged is not False:
            raise ShieldError(f"verdict.flagged must be a bool, got {type(self.flagged).__name__}")
        if self.score is not None and not (math.isfinite(self.score) and 0.0 <= self.score <= 1.0):
            raise ShieldError(f"verdict.score must be in [0, 1], got {self.score!r}")
        if self.judged is not True and self.judged is not False:
            raise ShieldError(f"verdict.judged must be a bool, got {type(self.judged).__name__}")
        if self.flagged and not self.judged:
            raise ShieldError("verdict.flagged is True, so verdict.judged must be True")


def runs_model(shield: Shield) -> bool:
    """Whether a shield says that it runs a model, so that a verdict takes about as long as a prefill."""
    return getattr(shield, "runs_model", False) is True


def state_layers(shield: Shield) -> Sequence[int]:
    """Return the layers whose hidden states a shield would take from the agent's own prefill, if it is of its model."""
    layers: Sequence[int] = getattr(shield, "state_layers", ())
    return layers


class Shield(Protocol):
    """Judges content. Configured by a policy, run by the pipeline.

    One that runs a model says so by a class attribute, `runs_model = True`: the agent's engine may then compute on an
    input while the shield still judges it.
    """

    async def start(self) -> None:
        """Load what the shield needs; called once, before the first check.

        Raises:
            ConfigurationError, ModelLoadError: if the shield cannot work; the agent then does not start.
        """

    async def check(self, content: ShieldInput) -> Verdict:
        """Judge one piece of content.

        Reads only; may be called concurrently. Never returns a verdict it did not reach.

        Raises:
            ShieldError: if the check could not be completed.
        """

    async def close(self) -> None:
        """Free what `start` took. Closing twice is allowed."""


@runtime_checkable
class BatchShield(Shield, Protocol):
    """A shield that judges many contents in less time than one after the other."""

    async def check_batch(self, contents: Sequence[ShieldInput]) -> Sequence[Verdict]:
        """Judge contents together; return for each, in order, the verdict that `check` gives.

        Raises:
            ShieldError: if one of the checks could not be completed.
        """
