"""A Llama model: token ids and cached keys in, logits out. Knows no text and draws no token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.errors import InferenceError
from agentkit.inference.attention import Attention, Span, Step, attend, plan
from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.layers import DecoderLayer, rms_norm
from agentkit.inference.rope import rotary_angles, rotary_frequencies

PAGE_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one sequence has in a forward pass: the ids to append to it, and what is wanted of them.

    `logits` says for how many of the last ids; `layers` whose hidden states: 0 is the embedding, `n` the
    output of the n-th layer.
    """

    ids: Sequence[int]
    kv: KVSequence
    logits: int = 1
    layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a part wanted, in fp32: `logits` (as many as wanted, vocab_size), `hidden` (layers, ids, hidden_size).

    `drawn` is the next token, where it was drawn on the device already; the logits hold until the next step then.
    """

    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    drawn: int | None = None


class LlamaModel:
    """A Llama model on the device and in the dtype of its tensors.

    Not safe for concurrent calls on one pool of pages; the weights are only read.
    """

    def __init__(self, config: ModelConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        self.config = config
        self._embedding = tensors["model.embed_tokens.weight"]
        self._layers = [DecoderLayer(config, tensors, index) for index in range(config.num_layers)]
        self._norm = tensors["model.norm.weight"]
        self._head = self._embedding if config.tie_embeddings else tensors["lm_head.weight"]
        self._frequencies = rotary_frequencies(config).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where pages and logits will be."""
        return self._embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, and of keys and values."""
        return self._embedding.dtype

    def page_bytes(self, page_tokens: int) -> int:
        """Return the bytes of one page of keys and values."""
        config = self.config
        return (
            2 * config.num_layers * config.num_kv_heads * config.head_dim * page_tokens * self.dtype.itemsize
        )

    def new_pool(self, num_pages: int, page_tokens: int = PAGE_TOKENS) -> PagePool:
        """Return an empty pool of pages that fit this model."""
        return PagePool(
            num_pages=num_pages,
            page_tokens=page_tokens,
            num_layers=self.config.num_layers,
            num_kv_heads=self.config.num_kv_heads,
            head_dim=self.config.head_dim,
            dtype=self.dtype,
            device=self.device,
        )

    def new_buffer(self, capacity: int | None = None) -> KVSequence:
        """Return an empty sequence in a pool of its own: for so many tokens, or as many as the context has."""
        tokens = self.config.context_length if capacity is None else capacity
        return KVSequence(self.new_pool(-(-tokens // PAGE_TOKENS)))

    def forward(self, ids: torch.Tensor, kv: KVSequence, *, last_only: bool = True) -> torch.Tensor:
        """Run the ids at the positions after `kv.length`; append their keys and values to `kv`.

        Returns the fp32 logits of shape (1 or len(ids), vocab_size): of the last id, or of all. If it raises,
        `kv` holds what it held.

        Raises:
            InferenceError: if there are no ids, or more than one row of them, or no page for them.
        """
        if ids.ndim != 1 or ids.shape[0] == 0:
            raise InferenceError(f"ids must be one row of at least one id, got the shape {tuple(ids.shape)}")
        (output,) = self.forward_parts([Part(ids=ids.tolist(), kv=kv, logits=1 if last_only else len(ids))])
        return output.logits

    def forward_parts(self, parts: Sequence[Part]) -> list[Output]:
        """Run the ids of several sequences of one pool side by side; append their keys and values to each.

        If it raises, every sequence holds what it held.

        Raises:
            InferenceError: if the pool has no pages for them.
        """
        for part in parts:
            part.kv.prepare(part.kv.length + len(part.ids))
        with torch.inference_mode():
            step, spans = self._step(parts)
            ids = torch.tensor([token_id for part in parts for token_id in part.ids], device=self.device)
            hidden = F.embedding(ids, self._embedding)
            observed = {layer for part in parts for layer in part.layers}
            states = {0: hidden}
            for number, layer in enumerate(self._layers, start=1):
                hidden = layer.forward(hidden, parts[0].kv.pool, step)
                if number in observed:
                    states[number] = hidden
            logits = self._logits(hidden, parts, spans)
        for part in parts:
            part.kv.length += len(part.ids)
        # A copy made outside inference mode may be masked in place by the caller; the original may not.
        rows = torch.split(logits.to(torch.float32, copy=True), [part.logits for part in parts])
        return [
            Output(
                logits=row, hidden=torch.stack([states[layer][span.rows].float() for layer in part.layers])
            )
            if part.layers
            else Output(logits=row)
            for part, span, row in zip(parts, spans, rows, strict=True)
        ]

    def decode_rows(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        *,
        pool: PagePool,
        attend: Attention,
    ) -> torch.Tensor:
        """Run one id of each row at its position; write its keys and values to its slot of the pool.

        Returns fp32 logits (rows, vocab_size). Never waits for the device, and its shapes depend on no value.
        """
        cosines, signed_sines = rotary_angles(self._frequencies, positions, dtype=self.dtype)
        step = Step(cosines=cosines, signed_sines=signed_sines, slots=slots, attend=attend)
        hidden = F.embedding(ids, self._embedding)
        for layer in self._layers:
            hidden = layer.forward(hidden, pool, step)
        return F.linear(rms_norm(hidden, self._norm, self.config.rms_norm_eps), self._head).float()

    def _step(self, parts: Sequence[Part]) -> tuple[Step, list[Span]]:
        slots, spans = plan(
            [(part.kv, len(part.ids)) for part in parts], dtype=self.dtype, device=self.device
        )
        positions = torch.cat(
            [torch.arange(part.kv.length, part.kv.length + len(part.ids)) for part in parts]
        )
        cosines, signed_sines = rotary_angles(self._frequencies, positions, dtype=self.dtype)
        attention = partial(attend, spans=spans)
        return Step(cosines=cosines, signed_sines=signed_sines, slots=slots, attend=attention), spans

    def _logits(self, hidden: torch.Tensor, parts: Sequence[Part], spans: Sequence[Span]) -> torch.Tensor:
        """Return the logits of the last rows that each part wants, one part after another."""
        ends = [
            (span.rows.stop - part.logits, span.rows.stop) for part, span in zip(parts, spans, strict=True)
        ]
        wanted = torch.cat([hidden[start:end] for start, end in ends])
        return F.linear(rms_norm(wanted, self._norm, self.config.rms_norm_eps), self._head)
