"""A sequence classifier on a server: vLLM's `/classify`. Texts in, probabilities of labels out, window by window.

Tokenizes here, so that special tokens spelt in a text are characters and every token is in some window. Loads no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import tokenizers

from agentkit.errors import InferenceError, ModelLoadError
from agentkit.inference.catalog import resolve_tokenizer
from agentkit.inference.classification import MAX_WINDOW, OVERLAP, Classification, Window
from agentkit.inference.json_files import read_json_object
from agentkit.inference.remote_faults import retrying
from agentkit.inference.remote_server import ModelServer, RemoteTimeouts, key_of

_CLASSIFY: Final = "/classify"
_BATCH_SIZE: Final = 16
_SUM_TOLERANCE: Final = 1e-3
"""How far from 1 the probabilities of a server that computes in half precision may add up."""


class RemoteClassifier:
    """Classifies texts on a server. Safe to call from many tasks.

    Args:
        base_url: The server's address, with or without `/v1`.
        model: What the server calls the model.
        tokenizer: The folder or hub id with the model's `tokenizer.json` and its labels, in `config.json`.
        api_key: As of `RemoteEngine`.
        timeouts: As of `RemoteEngine`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        tokenizer: str | None = None,
        api_key: str | None = None,
        timeouts: RemoteTimeouts | None = None,
    ) -> None:
        self._model = model
        self._reference = tokenizer or model
        self._timeouts = timeouts or RemoteTimeouts()
        self._server = ModelServer(base_url, key_of(api_key), self._timeouts)
        self._words: _Words | None = None

    async def start(self) -> None:
        """Load the tokenizer, and classify a word: a server that cannot is found out now.

        Raises:
            ModelLoadError: if there is no tokenizer, or it has no labels.
            InferenceError: if the server does not classify by these labels.
        """
        self._words = await anyio.to_thread.run_sync(_load, self._reference)
        await self.classify(["hello"])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels as the checkpoint names them, in the order of its outputs."""
        return self._known.labels

    async def classify(self, texts: Sequence[str], *, temperature: float = 1.0) -> list[Classification]:
        """Return the classification of each text, in order.

        The logits are divided by the temperature: above 1 the probabilities are less sure, below 1 surer.

        Raises:
            InferenceError: if the server fails, or answers with something that is no probability of these labels.
        """
        known = self._known
        cut = [await anyio.to_thread.run_sync(known.windows, text) for text in texts]
        rows = [window for windows in cut for window in windows]
        found: list[list[float]] = []
        for first in range(0, len(rows), _BATCH_SIZE):
            found += await self._probabilities([row.ids for row in rows[first : first + _BATCH_SIZE]])
        judged = iter(found)
        return [
            Classification(
                windows=tuple(
                    Window(
                        start=window.start,
                        end=window.end,
                        probabilities=dict(
                            zip(known.labels, _softened(next(judged), temperature), strict=True)
                        ),
                    )
                    for window in windows
                )
            )
            for windows in cut
        ]

    @property
    def _known(self) -> _Words:
        if self._words is None:
            raise InferenceError(f"{self._server} has not been asked yet; await classifier.start() first")
        return self._words

    async def _probabilities(self, rows: Sequence[list[int]]) -> list[list[float]]:
        """Return the label probabilities of each row of ids."""
        body = {"model": self._model, "input": list(rows)}

        async def ask() -> Any:
            return await self._server.post(_CLASSIFY, body)

        answer = await retrying(ask, seconds=self._timeouts.retrying)
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != len(rows):
            raise InferenceError(f"{self._server} did not classify {len(rows)} windows one by one")
        return [self._checked(row) for row in data]

    def _checked(self, row: Any) -> list[float]:
        """Return the probabilities of one window.

        Raises:
            InferenceError: if they are none, or the server has other labels than the checkpoint.
        """
        labels = self._known.labels
        values = row.get("probs") if isinstance(row, dict) else None
        if (
            not isinstance(values, list)
            or len(values) != len(labels)
            or not all(isinstance(value, float | int) and 0 <= value <= 1 for value in values)
            or abs(math.fsum(values) - 1) > _SUM_TOLERANCE
        ):
            raise InferenceError(f"{self._server} gave no probabilities of the {len(labels)} labels")
        if row.get("label") not in (None, labels[values.index(max(values))]):
            raise InferenceError(
                f"{self._server} has other labels than {self._reference}, which has {', '.join(labels)}"
            )
        return [float(value) for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A window as ids, and the characters `[start, end)` that it covers."""

    ids: list[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """A classifier's tokenizer, and its labels."""

    tokenizer: Any
    labels: tuple[str, ...]

    def windows(self, text: str) -> list[_Piece]:
        """Return the windows of a text; of an empty one there is one."""
        encoded = self.tokenizer.encode(text.encode("utf-8", "replace").decode())
        return [_piece(one) for one in (encoded, *encoded.overflowing)]


def _piece(encoded: Any) -> _Piece:
    spans = [span for span in encoded.offsets if span[1] > span[0]]
    return _Piece(
        ids=list(encoded.ids),
        start=min((start for start, _ in spans), default=0),
        end=max((end for _, end in spans), default=0),
    )


def _load(reference: str) -> _Words:
    folder: Path = resolve_tokenizer(reference)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as exc:  # the library raises what it likes on a missing or damaged file
        raise ModelLoadError(f"{folder} has no readable tokenizer.json ({type(exc).__name__})") from exc
    config = read_json_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    named = config.get("id2label")
    if not isinstance(named, dict) or sorted(named) != sorted(str(index) for index in range(len(named))):
        raise ModelLoadError(
            f"{folder / 'config.json'} names no labels (id2label); is it a sequence classifier?"
        )
    longest = config.get("max_position_embeddings")
    tokenizer.no_padding()
    tokenizer.enable_truncation(
        min(MAX_WINDOW, longest) if isinstance(longest, int) else MAX_WINDOW, stride=OVERLAP
    )
    tokenizer.encode_special_tokens = True  # spelt in a text, they are characters
    return _Words(tokenizer=tokenizer, labels=tuple(str(named[str(index)]) for index in range(len(named))))


def _softened(probabilities: Sequence[float], temperature: float) -> list[float]:
    """Return what the softmax would have given at this temperature."""
    if temperature == 1.0:
        return list(probabilities)
    weights = [value ** (1.0 / temperature) for value in probabilities]
    return [weight / math.fsum(weights) for weight in weights]
