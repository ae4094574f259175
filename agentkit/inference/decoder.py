"""Steps of a few rows through compiled functions, where they can be had. Knows no scheduling and draws no token.

A step is bound by how fast the weights can be read; torch spends as long again on the calls of its operators.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from agentkit.inference.attention import Span, Step
from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.layers import DecoderLayers
from agentkit.inference.matrices import Matrices
from agentkit.inference.quantized import GROUP

kernels: Any
try:
    from agentkit.inference import kernels
except (ImportError, OSError):  # numba is not for every platform, or lacks a library: torch does it all then
    kernels = None

logger = logging.getLogger(__name__)

SHARES_PER_THREAD = 4


def compiled_decoder(
    config: ModelConfig, layers: DecoderLayers, norm: torch.Tensor, head: Matrices, pool: PagePool
) -> Decoder | None:
    """Return a decoder that is compiled for pools like this one; None where torch or a GPU has to run every step.

    The first of its kind on a machine takes some seconds; the result is kept on disk, as `kernels.compiled` says.
    """
    if kernels is None or not fits(config, norm) or layers.qkv.packed:
        return None
    decoder = Decoder(config, layers, norm, head)
    started_at = time.perf_counter()
    try:
        decoder.compile(pool)
    except Exception as error:  # noqa: BLE001  # numba and LLVM have many, and torch can do without any of them
        logger.warning("decode steps run in torch, for they could not be compiled: %s", type(error).__name__)
        return None
    logger.info("decode steps are compiled, after %.1f seconds", time.perf_counter() - started_at)
    return decoder


def fits(config: ModelConfig, norm: torch.Tensor) -> bool:
    """Whether a model has fp32 on a CPU between its layers, and sizes of whole groups of weights."""
    sizes = (config.head_dim, config.hidden_size, config.intermediate_size)
    return (
        norm.device.type == "cpu" and norm.dtype == torch.float32 and not any(size % GROUP for size in sizes)
    )


class Decoder:
    """Runs steps on the CPU, with as many threads as torch uses in the calling one.

    Safe for concurrent calls on different pools: whatever a step writes is its own.
    """

    def __init__(
        self, config: ModelConfig, layers: DecoderLayers, norm: torch.Tensor, head: Matrices
    ) -> None:
        self._config = config
        self._decode_step = kernels.decode_step
        # By the process that they belong to, for a fork has none of its parent's, and how many threads a step has.
        self._helpers: dict[tuple[int, int], ThreadPoolExecutor] = {}
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

    def compile(self, pool: PagePool) -> None:
        """Compile steps for pools of this one's dtype, or find them on disk; run none.

        Raises:
            Exception: whatever numba or LLVM has against it.
        """
        angles = np.empty((1, self._config.head_dim), np.float32)
        one = np.ones(1, np.int64)
        places = kernels.Places(
            as_array(pool.keys), as_array(pool.values), one[None], one, angles, angles, one
        )
        hidden = np.empty((1, self._config.hidden_size), np.float32)
        scratch = self._scratch(hidden, places, threads=1)
        self._decode_step = kernels.compiled_for(self._decode_step, (0, self._weights, places, scratch))

    def step(
        self, hidden: torch.Tensor, step: Step, spans: Sequence[Span], wanted: Sequence[int], pool: PagePool
    ) -> torch.Tensor:
        """Return the logits of the wanted rows, and write the keys and values of all rows to their slots.

        `hidden` are the embeddings (rows, hidden_size), at most `FEW_ROWS`, which are overwritten; the logits have
        the shape (wanted, vocab_size), in fp32.
        """
        slots, lengths = _slots(spans)
        places = kernels.Places(
            keys=as_array(pool.keys),
            values=as_array(pool.values),
            slots=slots,
            lengths=lengths,
            cosines=step.cosines[:, 0].numpy(),
            signed_sines=step.signed_sines[:, 0].numpy(),
            wanted=np.array(wanted, np.int64),
        )
        threads = torch.get_num_threads()
        scratch = self._scratch(hidden.numpy(), places, threads=threads)
        self._run(places, scratch, threads=threads)
        return torch.from_numpy(scratch.logits)

    def _scratch(self, hidden: np.ndarray[Any, Any], places: Any, *, threads: int) -> Any:
        config = self._config
        rows, positions = places.slots.shape
        heads = config.num_heads * config.head_dim
        kv_heads = config.num_kv_heads * config.head_dim
        segments = -(-positions // kernels.SEGMENT)
        parts = kernels.PARTS_OF_A_LAYER * config.num_layers + 1
        return kernels.Scratch(
            hidden=hidden,
            qkv=np.empty((rows, heads + 2 * kv_heads), np.float32),
            attended=np.empty((rows, heads), np.float32),
            gate_up=np.empty((rows, 2 * config.intermediate_size), np.float32),
            activated=np.empty((rows, config.intermediate_size), np.float32),
            logits=np.empty((len(places.wanted), config.vocab_size), np.float32),
            normed=np.empty((threads, rows, config.hidden_size), np.float32),
            scores=np.empty((threads, kernels.HEADS_AT_ONCE, kernels.SEGMENT), np.float32),
            highest=np.empty((rows, config.num_heads, segments), np.float32),
            sums=np.empty((rows, config.num_heads, segments), np.float32),
            mixed=np.empty((rows, config.num_heads, segments, config.head_dim), np.float32),
            taken=np.zeros(parts, np.int64),
            done=np.zeros(parts, np.int64),
            shares=SHARES_PER_THREAD * threads,
        )

    def _run(self, places: Any, scratch: Any, *, threads: int) -> None:
        """Do all of a step together with the helpers that come in time; the others find nothing left of it."""
        helpers = self._helpers_of(threads)
        asked: list[Future[None]] = []
        with suppress(RuntimeError):  # the interpreter is about to end, or the system gives no more threads
            for thread in range(1, threads):
                asked += [helpers.submit(self._decode_step, thread, self._weights, places, scratch)]
        self._decode_step(0, self._weights, places, scratch)
        for helper in asked:
            helper.cancel()  # those that have not begun need not

    def _helpers_of(self, threads: int) -> ThreadPoolExecutor:
        """Return the threads, less the caller's, that help in steps of so many; they start when first needed."""
        key = (os.getpid(), threads)
        if key not in self._helpers:
            self._helpers[key] = ThreadPoolExecutor(max(1, threads - 1), "agentkit-decoder")
        return self._helpers[key]


def as_array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return the tensor's memory as an array; bfloat16 as the int16 of its bits, for numpy has none."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _slots(spans: Sequence[Span]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the slots (rows, positions) that each row sees, and how many those are."""
    lines = [np.concatenate([np.arange(run.start, run.stop) for run in span.runs]) for span in spans]
    slots = np.zeros((spans[-1].rows.stop, max(map(len, lines))), np.int64)
    lengths = np.empty(len(slots), np.int64)
    for span, line in zip(spans, lines, strict=True):
        slots[span.rows, : len(line)] = line
        lengths[span.rows] = np.arange(len(line) - (span.rows.stop - span.rows.start), len(line)) + 1
    return slots, lengths
