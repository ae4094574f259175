"""A Llama model: token ids and cached keys in, logits out. Knows no text and draws no token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

import torch

from agentkit.errors import InferenceError
from agentkit.inference.attention import Attention, Span, Step, attend, plan
from agentkit.inference.config import ModelConfig, WeightType
from agentkit.inference.decoder import compiled_decoder
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.layers import DecoderLayers, rms_norm
from agentkit.inference.matrices import FEW_ROWS, Matrices
from agentkit.inference.rope import rotary_angles, rotary_frequencies

PAGE_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one sequence has in a forward pass: the ids to append to it, and what is wanted of them.

    `logits` says for how many of the last ids; `layers` whose hidden states: 0 is the embedding, `n` the
    output of the n-th layer. A part that wants no logits may be content with the first `depth` layers: what `kv` holds
    of its ids is then of no use to what goes deeper.
    """

    ids: Sequence[int]
    kv: KVSequence
    logits: int = 1
    layers: tuple[int, ...] = ()
    depth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a part wanted, in fp32: `logits` (as many as wanted, vocab_size), `hidden` (layers, ids, hidden_size).

    `drawn` is the next token, where it was drawn on the device already; the logits hold until the next step then.
    """

    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    drawn: int | None = None


class LlamaModel:
    """A Llama model on the device of its tensors.

    Not safe for concurrent calls on one pool of pages; the weights are only read. `weight_dtype` is the type that
    the layers' matrices are rounded to, uint8 for int4; `kv_dtype` is that of the pools.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, torch.Tensor],
        *,
        weights: WeightType | None = None,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        """Keep the matrices of the tensors as `weights` says, and keys and values in `kv_dtype`.

        None is the type that the tensors have; that of the norms is computed in. Each tensor is looked up once.
        Where neither compiled functions nor kernels compute few rows, smaller weights are widened again, for speed;
        int4 are not, for a CPU has nothing but the reference that the kernel is held to.

        Raises:
            ConfigurationError: if `weights` does not fit the sizes of the model.
        """
        self.config = config
        self._layers = DecoderLayers(config, tensors, weights)
        self._norm = tensors["model.norm.weight"]
        # Four bits of the head, or of what goes into the first layer, would cost more quality than they save bytes.
        outer = "int8" if weights == "int4" else weights
        self._embedding = Matrices([tensors["model.embed_tokens.weight"]], outer)
        self._head = (
            self._embedding if config.tie_embeddings else Matrices([tensors["lm_head.weight"]], outer)
        )
        self._frequencies = rotary_frequencies(config).to(self.device)
        self.kv_dtype = self.dtype if kv_dtype is None else kv_dtype
        self.weight_dtype = self._layers.qkv.values.dtype
        self._decoder = compiled_decoder(config, self._layers, self._norm, self._head, self.new_pool(1))
        has_kernels = weights == "int4" or (weights == "int8" and self.device.type == "cuda")
        if self._decoder is None and not has_kernels:
            for matrices in self._matrices:
                matrices.widen(self.dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where pages and logits will be."""
        return self._norm.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of what goes from layer to layer."""
        return self._norm.dtype

    @property
    def compiled(self) -> bool:
        """Whether steps of few rows are compiled functions; if not, they are calls of torch's operators."""
        return self._decoder is not None

    @property
    def weight_bytes(self) -> int:
        """How much memory the matrices take."""
        return sum(matrices.nbytes for matrices in self._matrices)

    def page_bytes(self, page_tokens: int) -> int:
        """Return the bytes of one page of keys and values."""
        config = self.config
        numbers = 2 * config.num_layers * config.num_kv_heads * config.head_dim * page_tokens
        return numbers * self.kv_dtype.itemsize

    def new_pool(self, num_pages: int, page_tokens: int = PAGE_TOKENS) -> PagePool:
        """Return an empty pool of pages that fit this model."""
        return PagePool(
            num_pages=num_pages,
            page_tokens=page_tokens,
            num_layers=self.config.num_layers,
            num_kv_heads=self.config.num_kv_heads,
            head_dim=self.config.head_dim,
            dtype=self.kv_dtype,
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
            hidden = self._embedding.look_up(ids, self.dtype)
            observed = {layer for part in parts for layer in part.layers}
            wanted = _wanted_rows(parts, spans)
            pool = parts[0].kv.pool
            if self._decoder is not None and not observed and len(ids) <= FEW_ROWS:
                states = {}
                logits = self._decoder.step(hidden, step, spans, wanted, pool)
            else:
                depth = max(len(self._layers) if part.depth is None else part.depth for part in parts)
                states = self._states(hidden, step, observed, pool, depth)
                logits = self._logits(states[depth][wanted])
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
        hidden = self._embedding.look_up(ids, self.dtype)
        for index in range(len(self._layers)):
            hidden = self._layers.forward(index, hidden, pool, step)
        return self._logits(hidden).float()

    @property
    def _matrices(self) -> set[Matrices]:
        return {*self._layers.matrices, self._embedding, self._head}

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

    def _states(
        self, hidden: torch.Tensor, step: Step, observed: Set[int], pool: PagePool, depth: int
    ) -> dict[int, torch.Tensor]:
        """Return the hidden states after the observed layers and the last one of the first `depth`, which run."""
        states = {0: hidden}
        for index in range(depth):
            hidden = self._layers.forward(index, hidden, pool, step)
            if index + 1 in observed:
                states[index + 1] = hidden
        return states | {depth: hidden}

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits (rows, vocab_size) of hidden states after the last layer."""
        return self._head.exact_product(rms_norm(hidden, self._norm, self.config.rms_norm_eps), 0)


def _wanted_rows(parts: Sequence[Part], spans: Sequence[Span]) -> list[int]:
    """Return the rows whose logits are wanted, the last ones of each part, one part after another."""
    ends = [span.rows.stop for span in spans]
    return [row for part, end in zip(parts, ends, strict=True) for row in range(end - part.logits, end)]
