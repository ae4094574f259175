"""Encoder classifiers (Prompt Guard 1 and 2): texts in, probabilities of their labels out, window by window.

Every token of a text is in some window. Knows no stages, no thresholds and no meaning of a label.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import torch
import transformers

from agentkit.errors import InferenceError, ModelLoadError
from agentkit.inference.catalog import resolve
from agentkit.inference.classification import MAX_WINDOW, OVERLAP, Classification, Window

_BATCH_SIZE = 16


class EncoderClassifier:
    """A sequence classifier on this machine. Safe to call from many tasks of one event loop."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Serve a transformers model and its fast tokenizer, both loaded already."""
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._max_window = min(MAX_WINDOW, model.config.max_position_embeddings)
        self._limiter = anyio.CapacityLimiter(1)
        # A cancelled call leaves the limiter at once, and its thread only after its batch.
        self._running = threading.Lock()

    @classmethod
    async def load(cls, reference: str) -> EncoderClassifier:
        """Load a folder or a hub id.

        Raises:
            ModelLoadError: if it is missing, damaged, or has no trained classification head.
        """
        return await anyio.to_thread.run_sync(_load, reference)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels as the checkpoint names them, in the order of its outputs."""
        id2label = self._model.config.id2label
        return tuple(str(id2label[index]) for index in range(len(id2label)))

    async def classify(self, texts: Sequence[str], *, temperature: float = 1.0) -> list[Classification]:
        """Return the classification of each text, in order. Special tokens spelt in a text are characters.

        The logits are divided by the temperature: above 1 the probabilities are less sure, below 1 surer.

        Raises:
            InferenceError: if the model fails, or answers with something that is no probability.
        """
        return await anyio.to_thread.run_sync(
            self._classify, list(texts), temperature, limiter=self._limiter, abandon_on_cancel=True
        )

    def _classify(self, texts: list[str], temperature: float) -> list[Classification]:
        if not texts:
            return []
        with self._running:
            encoded = self._windows(texts)
            probabilities = self._probabilities(encoded["input_ids"], temperature)
        windows: list[list[Window]] = [[] for _ in texts]
        for row, text_index in enumerate(encoded["overflow_to_sample_mapping"]):
            spans = [span for span in encoded["offset_mapping"][row] if span[1] > span[0]]
            window = Window(
                start=min((start for start, _ in spans), default=0),
                end=max((end for _, end in spans), default=0),
                probabilities=dict(zip(self.labels, probabilities[row], strict=True)),
            )
            windows[text_index].append(window)
        return [Classification(windows=tuple(of_text)) for of_text in windows]

    def _windows(self, texts: list[str]) -> Any:
        return self._tokenizer(
            [text.encode("utf-8", "replace").decode() for text in texts],
            truncation=True,
            max_length=self._max_window,
            stride=OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,
        )

    @torch.inference_mode()
    def _probabilities(self, rows: list[list[int]], temperature: float) -> list[list[float]]:
        """Return the label probabilities of each row, of all texts together, in batches of similar length."""
        probabilities: list[list[float]] = [[] for _ in rows]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        for first in range(0, len(order), _BATCH_SIZE):
            anyio.from_thread.check_cancelled()
            batch = order[first : first + _BATCH_SIZE]
            logits = self._forward([rows[row] for row in batch])
            for row, values in zip(batch, (logits / temperature).softmax(dim=-1).tolist(), strict=True):
                probabilities[row] = values
        return probabilities

    def _forward(self, rows: list[list[int]]) -> torch.Tensor:
        """Return the logits of one padded batch: (batch, num_labels), in double precision."""
        longest = max(len(row) for row in rows)
        ids = torch.full((len(rows), longest), self._tokenizer.pad_token_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        try:
            logits = self._model(input_ids=ids, attention_mask=mask).logits  # (batch, num_labels)
        except (RuntimeError, IndexError) as exc:
            raise InferenceError(f"the classifier failed on {len(rows)} windows of {longest} tokens") from exc
        if not bool(torch.isfinite(logits).all()):
            raise InferenceError("the classifier's logits are not finite")
        checked: torch.Tensor = logits.double()
        return checked


def _load(reference: str) -> EncoderClassifier:
    path: Path = resolve(reference).path
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            path, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as exc:  # transformers raises what it likes on a damaged checkpoint
        reason = str(exc).strip().partition("\n")[0][:200] or type(exc).__name__
        raise ModelLoadError(f"{path} is not a readable classifier: {reason}") from exc
    if report["missing_keys"]:
        # transformers would fill them with random numbers and answer all the same.
        raise ModelLoadError(
            f"{path} lacks {len(report['missing_keys'])} weights, {min(report['missing_keys'])} among them; "
            "is it a sequence classifier?"
        )
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise ModelLoadError(f"{path} needs a tokenizer.json and a padding token to be read in windows")
    return EncoderClassifier(model, tokenizer)
