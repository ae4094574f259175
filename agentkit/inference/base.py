"""The Engine protocol and its values: token ids in, token ids out. Knows no text, no roles, no tools, no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from agentkit.errors import ConfigurationError, InferenceError

if TYPE_CHECKING:
    from agentkit.inference.tokenizer import Tokenizer


class Priority(IntEnum):
    """Who runs first when several wait: a lower number goes first."""

    SHIELD = 0
    INTERACTIVE = 1
    BACKGROUND = 2


class StopReason(StrEnum):
    """Why a generation ended."""

    STOP_TOKEN = "stop_token"  # noqa: S105  # a reason, not a password
    MAX_TOKENS = "max_tokens"
    CONTEXT_FULL = "context_full"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is drawn. Temperature 0 means the most likely token.

    `stop_ids` end the generation; the one that fired is the last id of the output. `seed` makes a draw
    repeatable; None draws afresh each time.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop_ids: frozenset[int] = frozenset()
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 10.0:
            raise ConfigurationError(f"temperature must be in [0, 10], got {self.temperature!r}")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigurationError(f"top_p must be in (0, 1], got {self.top_p!r}")
        if self.max_tokens < 1:
            raise ConfigurationError(f"max_tokens must be at least 1, got {self.max_tokens!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What the output may be, as a grammar in llguidance's Lark syntax.

    https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
    """

    lark: str


MissReason: TypeAlias = Literal["new", "changed", "evicted", "forgotten"]
"""Why the cached prefix of a prompt ends where it does.

`new`: nothing cached went further. `changed`: a cached sequence begins alike and goes on with another token.
`evicted`: it was cached, and gave way to something used since. `forgotten`: it was dropped on demand. Whether
another scope holds the tokens is never among them: that would tell one tenant what another has said.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one call cost. Tokens are counts, times are seconds.

    `prompt_tokens = cached_tokens + prefilled_tokens`. Where more than the last token had to be prefilled,
    `miss_at` is the index of the first one and `miss_reason` says why. A sum has those of its first call that
    missed. `drafted_tokens` were guessed and computed ahead of their turn; `accepted_tokens` of them came, and are
    among the output's.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    output_tokens: int = 0
    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    miss_at: int | None = None
    miss_reason: MissReason | None = None
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        missed = other if self.miss_at is None else self
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            prefilled_tokens=self.prefilled_tokens + other.prefilled_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            queue_seconds=self.queue_seconds + other.queue_seconds,
            prefill_seconds=self.prefill_seconds + other.prefill_seconds,
            decode_seconds=self.decode_seconds + other.decode_seconds,
            miss_at=missed.miss_at,
            miss_reason=missed.miss_reason,
            drafted_tokens=self.drafted_tokens + other.drafted_tokens,
            accepted_tokens=self.accepted_tokens + other.accepted_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedToken:
    """One token. Only the last one of a generation has a `stop_reason` and the `usage` of the whole call."""

    id: int
    stop_reason: StopReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole generation: its ids (a stop id included), why it ended and what it cost."""

    ids: tuple[int, ...]
    stop_reason: StopReason
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Natural log-probabilities of the candidates as the next token, in their order, and what it cost."""

    logprobs: tuple[float, ...]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Which hidden states are wanted: what `layers` make of the ids [start, stop) of a prompt."""

    start: int
    stop: int
    layers: tuple[int, ...]


class Engine(Protocol):
    """Runs one model. Safe to call from many tasks of one event loop."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
    ) -> AsyncIterator[GeneratedToken]:
        """Generate after the prompt. Cached key-value pairs are shared only within one `scope`.

        The first `public_prefix` tokens hold nothing private: what is cached of them, every scope may use.

        Closing the iterator, or cancelling its task, stops the generation before its next token.

        Raises:
            ContextLengthError: if the prompt leaves no room for an output.
            GrammarError: if the grammar cannot be compiled or cannot match.
            InferenceError: if the prompt is empty, an id is out of range, or the engine is closed.
        """

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Return the log-probability of each candidate as the next token, after one prefill.

        `scope` and `public_prefix` are as in `generate`.

        Raises:
            ContextLengthError, InferenceError: as `generate`.
        """

    async def close(self) -> None:
        """Free the model. Calls in progress end with an InferenceError. Closing twice is allowed."""


async def collect(tokens: AsyncIterator[GeneratedToken]) -> Completion:
    """Wait for a whole generation.

    Raises:
        InferenceError: if the stream ended without saying why.
    """
    ids: list[int] = []
    async for token in tokens:
        ids.append(token.id)
        if token.stop_reason is not None and token.usage is not None:
            return Completion(ids=tuple(ids), stop_reason=token.stop_reason, usage=token.usage)
    raise InferenceError(f"the engine's stream ended after {len(ids)} tokens without a stop reason")
