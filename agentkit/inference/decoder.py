"""Steps of a few rows through compiled functions, where they can be had. Knows no scheduling and draws no token.

A step is bound by how fast the weights can be read; torch spends as long again on the calls of its operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from agentkit.inference.attention import Span, Step
from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.layers import DecoderLayers
from agentkit.inference.matrices import FEW_ROWS, GROUP, Matrices

kernels: Any
try:
    from agentkit.inference import kernels
except ImportError:  # numba is not for every platform: torch does it all then
    kernels = None

PARTS_OF_A_LAYER = 6
SHARES_PER_THREAD = 4


class Decoder:
    """Runs steps on the CPU, with as many threads as torch uses. Not safe for concurrent calls."""

    def __init__(
        self, config: ModelConfig, layers: DecoderLayers, norm: torch.Tensor, head: Matrices
    ) -> None:
        self._config = config
        self._vocab_size = head.values.shape[1]
        self._threads = 0
        self._shares: list[Future[None]] = []
        self._helpers = ThreadPoolExecutor(1)  # starts no thread before it has something to do
        self._normed = np.empty((0, FEW_ROWS, config.hidden_size), np.float32)
        self._scores = np.empty((0, 0), np.float32)
        self._weights = kernels.Weights(
            attention_norm=layers.attention_norm.numpy(),
            qkv=as_array(layers.qkv.values),
            qkv_scales=layers.qkv.scales.numpy(),
            output=as_array(layers.output.values),
            output_scales=layers.output.scales.numpy(),
            mlp_norm=layers.mlp_norm.numpy(),
            gate_up=as_array(layers.gate_up.values),
            gate_up_scales=layers.gate_up.scales.numpy(),
            down=as_array(layers.down.values),
            down_scales=layers.down.scales.numpy(),
            norm=norm[None].numpy(),
            head=as_array(head.values),
            head_scales=head.scales.numpy(),
            eps=config.rms_norm_eps,
        )

    @staticmethod
    def supports(config: ModelConfig, norm: torch.Tensor) -> bool:
        """Whether a model can be run here: numba, fp32 between the layers, and sizes of whole groups of weights."""
        return (
            kernels is not None
            and norm.device.type == "cpu"
            and norm.dtype == torch.float32
            and config.head_dim % GROUP == 0
            and config.hidden_size % GROUP == 0
            and config.intermediate_size % GROUP == 0
        )

    def step(self, hidden: torch.Tensor, step: Step, wanted: Sequence[int], pool: PagePool) -> torch.Tensor:
        """Return the logits of the wanted rows, and write the keys and values of all rows to their slots.

        The embeddings in `hidden` are overwritten.
        """
        config = self._config
        count = hidden.shape[0]
        slots, lengths = _places(step.spans)
        self._join_helpers()
        self._make_room(slots.shape[1])
        places = kernels.Places(
            keys=as_array(pool.keys),
            values=as_array(pool.values),
            slots=slots,
            lengths=lengths,
            cosines=step.cosines[:, 0].numpy(),
            signed_sines=step.signed_sines[:, 0].numpy(),
            wanted=np.array(wanted, np.int64),
        )
        parts = PARTS_OF_A_LAYER * config.num_layers + 1
        heads = config.num_heads * config.head_dim
        kv_heads = config.num_kv_heads * config.head_dim
        scratch = kernels.Scratch(
            hidden=hidden.numpy(),
            qkv=np.empty((count, heads + 2 * kv_heads), np.float32),
            attended=np.empty((count, heads), np.float32),
            gate_up=np.empty((count, 2 * config.intermediate_size), np.float32),
            activated=np.empty((count, config.intermediate_size), np.float32),
            logits=np.empty((len(wanted), self._vocab_size), np.float32),
            normed=self._normed,
            scores=self._scores,
            taken=np.zeros(parts, np.int64),
            done=np.zeros(parts, np.int64),
            shares=SHARES_PER_THREAD * self._threads,
        )
        self._run(places, scratch)
        return torch.from_numpy(scratch.logits)

    def _make_room(self, positions: int) -> None:
        """Have a helper for each of torch's threads but the caller's, and room for the scores of so many positions."""
        threads = torch.get_num_threads()
        if threads != self._threads:
            self._threads = threads
            self._helpers = ThreadPoolExecutor(max(1, threads - 1), "agentkit-decoder")
            self._normed = np.empty((threads, FEW_ROWS, self._config.hidden_size), np.float32)
            self._scores = np.empty((threads, 0), np.float32)
        if self._scores.shape[1] < positions:
            room = max(1024, 1 << (positions - 1).bit_length())  # a power of two: it grows rarely
            self._scores = np.empty((threads, room), np.float32)

    def _run(self, places: Any, scratch: Any) -> None:
        """Do all of a step together with the helpers that come in time; the others find nothing left of it."""
        self._shares = [
            self._helpers.submit(kernels.decode_step, thread, self._weights, places, scratch)
            for thread in range(1, self._threads)
        ]
        kernels.decode_step(0, self._weights, places, scratch)

    def _join_helpers(self) -> None:
        """Wait for those who came late to the last step: they still write to their places."""
        for share in self._shares:
            share.result()


def as_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return the tensor's memory as an array; bfloat16 as the int16 of its bits, for numpy has none."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _places(spans: Sequence[Span]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the slots (rows, positions) that each row sees, and how many those are."""
    lines = [np.concatenate([np.arange(run.start, run.stop) for run in span.runs]) for span in spans]
    slots = np.zeros((spans[-1].rows.stop, max(map(len, lines))), np.int64)
    lengths = np.empty(len(slots), np.int64)
    for span, line in zip(spans, lines, strict=True):
        slots[span.rows, : len(line)] = line
        lengths[span.rows] = np.arange(len(line) - (span.rows.stop - span.rows.start), len(line)) + 1
    return slots, lengths
