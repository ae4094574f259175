"""What probes see of a text: the mean hidden states of its windows. Knows no head and no label.

A text is read in pieces, each behind the same beginning, so that a long one looks like many short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agentkit.errors import ConfigurationError, InferenceError
from agentkit.inference.base import Engine, Priority
from agentkit.inference.probe_contexts import befores
from agentkit.inference.probe_head import ProbeHead
from agentkit.inference.tokenizer import Tokenizer

PIECE_TOKENS: Final = 480
"""How many tokens of a text are read together, fewer where the model's context is shorter."""


@runtime_checkable
class ReadableEngine(Protocol):
    """An engine that gives its hidden states; one over a network does not."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""

    @property
    def fingerprint(self) -> str:
        """What tells the model from every other."""

    @property
    def num_layers(self) -> int:
        """How many layers the model has."""

    async def early_states(
        self, ids: Sequence[int], layers: Sequence[int], *, priority: Priority = Priority.SHIELD
    ) -> NDArray[np.float32]:
        """Return the hidden states (ids, layers, hidden_size); layers above the highest are not computed."""


class ProbeReader:
    """Reads texts with some layers of a model. Safe to call from many tasks of one event loop."""

    def __init__(
        self,
        engine: ReadableEngine,
        layers: Sequence[int],
        *,
        window: int,
        priority: Priority = Priority.SHIELD,
        before: Sequence[int] | None = None,
    ) -> None:
        """Read in windows of so many tokens, each of which begins half a window after the one before.

        Every piece is read behind the ids `before`, by default a short conversation's.

        Raises:
            ConfigurationError: if the model's context does not hold one window.
        """
        self._engine = engine
        self._layers = tuple(layers)
        self._window = window
        self._priority = priority
        self._before = before or befores(engine.tokenizer, room=engine.context_length - window - 1)[0]
        # One place is kept for an output.
        self._piece = min(max(PIECE_TOKENS, window), engine.context_length - len(self._before) - 1)
        if self._piece < window:
            raise ConfigurationError(
                f"the probe's window is {window} tokens, the model's context has room for {self._piece}"
            )

    async def read(self, text: str) -> NDArray[np.float32]:
        """Return the mean hidden states of each window of a text, (windows, layers, hidden_size).

        Every token is in some window.

        Raises:
            InferenceError: if the text is empty, or the model fails or gives something that is no number.
        """
        ids = self._engine.tokenizer.encode(text)
        if not ids:
            raise InferenceError("an empty text has no hidden states")
        # One after the other: a piece fills a step of the engine.
        return np.concatenate([await self._means(ids[piece]) for piece in self._pieces(len(ids))])

    def means_of(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the means of windows, as `read` does, of states (tokens, layers, hidden_size) that are there already.

        Raises:
            InferenceError: if they are not numbers, or of other layers.
        """
        if not len(states) or states.shape[1] != len(self._layers) or not np.isfinite(states).all():
            raise InferenceError(f"the model's hidden states of {len(states)} tokens are not numbers")
        return np.stack(
            [states[place : place + self._window].mean(axis=0) for place in self._places(len(states))]
        )

    def windows_over(self, text: str, start: int, end: int) -> list[int]:
        """Return which windows of a text have something of its characters [start, end)."""
        encode = self._engine.tokenizer.encode
        first, last = len(encode(text[:start])), len(encode(text[:end]))
        windows = [
            (piece.start + place, min(piece.start + place + self._window, piece.stop))
            for piece in self._pieces(len(encode(text)))
            for place in self._places(piece.stop - piece.start)
        ]
        return [index for index, (begin, stop) in enumerate(windows) if begin < last and stop > first]

    def _pieces(self, length: int) -> list[slice]:
        """Return the pieces of so many tokens: two share half a window, so no border parts what fits in that."""
        starts = window_starts(length, self._piece, self._piece - self._window // 2)
        return [slice(start, min(start + self._piece, length)) for start in starts]

    def _places(self, length: int) -> list[int]:
        return window_starts(length, self._window, self._window // 2)

    async def _means(self, ids: Sequence[int]) -> NDArray[np.float32]:
        states = await self._engine.early_states([*self._before, *ids], self._layers, priority=self._priority)
        if len(states) != len(self._before) + len(ids):
            raise InferenceError(f"the model gave hidden states of {len(states)} tokens for {len(ids)}")
        return self.means_of(states[len(self._before) :])


def readable(engine: Engine, reference: str) -> ReadableEngine:
    """Return an engine as one that gives its hidden states.

    Raises:
        ConfigurationError: if it does not.
    """
    if isinstance(engine, ReadableEngine):
        return engine
    raise ConfigurationError(
        f"{reference} gives no hidden states; a probe needs a model that runs in this process"
    )


def reader_for(head: ProbeHead, engine: Engine, reference: str) -> ProbeReader:
    """Return what reads texts for a head.

    Raises:
        ConfigurationError: if the engine's model is not the one that the head was fit on, or gives no hidden states.
    """
    states = readable(engine, reference)
    if states.fingerprint != head.fingerprint:
        raise ConfigurationError(
            f"the head {head.name!r} was fit on {head.model} ({head.fingerprint[:12]}) and {reference} is another "
            f"model ({states.fingerprint[:12]}); fit a head for it with `agentkit probe fit`"
        )
    return ProbeReader(states, head.layers, window=head.window)


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """Return where windows of a size begin so that they cover a length; the last one ends with it."""
    last = max(0, length - size)
    return [*range(0, last, stride), last]
