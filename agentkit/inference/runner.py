"""One decode step of many sequences on the device: in buckets of fixed shapes, with head and sampling inside.

Knows no requests and no turns. A bucket is the next power of two; the rows that pad it see nothing, and write to
where nobody reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from agentkit.inference.attention_paged import PagedAttention, paged_attention
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.model import LlamaModel, Output
from agentkit.inference.sampler import NO_TOKEN, Draw, draw_settings, draw_tokens, most_likely_tokens

WARM_BUCKETS = (1, 2, 4, 8)
"""Made ready before the first request; larger ones when they are first needed."""

_GREEDY = Draw(temperature=0.0, top_p=1.0, uniform=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one sequence has in a decode step: its next token, and how the one after it is drawn.

    Without a `draw`, the logits are wanted instead.
    """

    token_id: int
    kv: KVSequence
    draw: Draw | None


class StepBuffers:
    """The inputs and outputs of one bucket's steps, which stay where they are from step to step."""

    def __init__(self, bucket: int, *, table_pages: int, vocab_size: int, pool: PagePool) -> None:
        device = pool.keys.device
        self.bucket = bucket
        self.numbers = torch.zeros((4, bucket), dtype=torch.int64, device=device)
        self.ids, self.positions, self.slots, self.lengths = self.numbers.unbind()
        self.pages = torch.zeros((bucket, table_pages), dtype=torch.int32, device=device)
        self.settings = torch.zeros((bucket, 3), dtype=torch.float64, device=device)
        self.logits = torch.zeros((bucket, vocab_size), dtype=torch.float32, device=device)
        self.tokens = torch.zeros(bucket, dtype=torch.int64, device=device)
        self._pool = pool
        self._known_pages: list[list[int]] = [[] for _ in range(bucket)]

    def fill(self, rows: Sequence[Row]) -> None:
        """Write the inputs of a step; the rows behind the given ones are padding."""
        page_tokens = self._pool.page_tokens
        numbers = [(0, 0, self._pool.scratch_slot, 0)] * self.bucket
        for index, row in enumerate(rows):
            position = row.kv.length
            slot = row.kv.pages[position // page_tokens] * page_tokens + position % page_tokens
            numbers[index] = (row.token_id, position, slot, position + 1)
            self._fill_pages(index, row.kv.pages)
        draws = [row.draw or _GREEDY for row in rows] + [_GREEDY] * (self.bucket - len(rows))
        self.numbers.copy_(torch.tensor(numbers).T)
        self.settings.copy_(draw_settings(draws))

    def _fill_pages(self, index: int, pages: list[int]) -> None:
        """Write a row of the table, unless it says that already."""
        if self._known_pages[index] != pages:
            self._known_pages[index] = list(pages)
            self.pages[index, : len(pages)] = torch.tensor(pages, dtype=torch.int32)


class DecodeRunner(ABC):
    """Runs decode steps on one model and one pool of its pages, for as long as both last."""

    def __init__(self, model: LlamaModel, pool: PagePool) -> None:
        self.model = model
        self.pool = pool
        self._buffers: dict[int, StepBuffers] = {}

    def warm_up(self) -> None:
        """Run the usual buckets on padding alone, so that no request waits for what their first steps prepare."""
        with torch.inference_mode():
            for bucket in WARM_BUCKETS:
                buffers = self._buffers_for(bucket)
                buffers.fill([])
                self._run_greedy(buffers)
                self._run_drawing(buffers)

    def decode(self, rows: Sequence[Row]) -> list[Output]:
        """Append one token to each sequence, and draw the next one or return its logits.

        If it raises, every sequence holds what it held.

        Raises:
            InferenceError: if the pool has no pages for them.
        """
        for row in rows:
            row.kv.prepare(row.kv.length + 1)
        with torch.inference_mode():
            buffers = self._buffers_for(len(rows))
            buffers.fill(rows)
            if any(row.draw is not None and row.draw.temperature > 0.0 for row in rows):
                self._run_drawing(buffers)
            else:
                self._run_greedy(buffers)
            tokens = buffers.tokens.tolist()
        for row in rows:
            row.kv.length += 1
        return [
            _output(row, token_id, logits[None])
            for row, token_id, logits in zip(rows, tokens, buffers.logits, strict=False)
        ]

    @abstractmethod
    def _run_greedy(self, buffers: StepBuffers) -> None:
        """Run `greedy_step` on what the buffers hold."""

    @abstractmethod
    def _run_drawing(self, buffers: StepBuffers) -> None:
        """Run `drawing_step` on what the buffers hold."""

    @abstractmethod
    def attention(self, bucket: int) -> PagedAttention:
        """Return what the rows of a bucket attend with."""

    def greedy_step(self, buffers: StepBuffers) -> None:
        """Compute the logits of all rows, and the most likely token of each."""
        self._compute_logits(buffers)
        buffers.tokens.copy_(most_likely_tokens(buffers.logits))

    def drawing_step(self, buffers: StepBuffers) -> None:
        """Compute the logits of all rows, and draw a token for each as its settings say."""
        self._compute_logits(buffers)
        buffers.tokens.copy_(draw_tokens(buffers.logits, buffers.settings))

    def _compute_logits(self, buffers: StepBuffers) -> None:
        attend = partial(
            self.attention(buffers.bucket),
            pages=buffers.pages,
            lengths=buffers.lengths.to(torch.int32),
            page_tokens=self.pool.page_tokens,
        )
        buffers.logits.copy_(
            self.model.decode_rows(
                buffers.ids, buffers.positions, buffers.slots, pool=self.pool, attend=attend
            )
        )

    def _buffers_for(self, num_rows: int) -> StepBuffers:
        bucket = bucket_for(num_rows)
        if bucket not in self._buffers:
            longest = min(self.model.config.context_length, self.pool.capacity)
            self._buffers[bucket] = StepBuffers(
                bucket,
                table_pages=self.pool.pages_for(longest),
                vocab_size=self.model.config.vocab_size,
                pool=self.pool,
            )
        return self._buffers[bucket]


class EagerRunner(DecodeRunner):
    """Runs the steps as they are, op by op: on any device, and what a captured step is compared with."""

    def _run_greedy(self, buffers: StepBuffers) -> None:
        self.greedy_step(buffers)

    def _run_drawing(self, buffers: StepBuffers) -> None:
        self.drawing_step(buffers)

    def attention(self, bucket: int) -> PagedAttention:
        """Return the reference."""
        return paged_attention


def bucket_for(num_rows: int) -> int:
    """Return the bucket of so many rows: the next power of two."""
    return 1 << (num_rows - 1).bit_length()


def _output(row: Row, token_id: int, logits: torch.Tensor) -> Output:
    if row.draw is None or token_id == NO_TOKEN:
        # The next step overwrites the original, and a copy may be masked in place.
        return Output(logits=logits.clone())
    return Output(logits=logits, drawn=token_id)
