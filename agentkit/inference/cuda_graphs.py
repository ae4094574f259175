"""Decode steps on CUDA: one captured graph per bucket and way of drawing, replayed on buffers that stay in place.

A graph holds addresses: of the weights, the pool and its bucket's buffers, all of which live as long as the runner.
Nothing else in it depends on a step, so none is captured twice; another model or pool needs another runner.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch

from agentkit.inference.attention_paged import PagedAttention
from agentkit.inference.attention_triton import splits_for, triton_paged_attention
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.model import LlamaModel
from agentkit.inference.runner import DecodeRunner, StepBuffers

Drawing: TypeAlias = Literal["greedy", "drawing"]

WARM_UP_STEPS = 3
"""Before a capture: kernels are compiled and libraries make their workspaces, neither of which can be captured."""


class GraphRunner(DecodeRunner):
    """Captures each kind of step once and replays it; all graphs share one memory pool, as one runs at a time."""

    def __init__(self, model: LlamaModel, pool: PagePool) -> None:
        super().__init__(model, pool)
        self._processors = torch.cuda.get_device_properties(model.device).multi_processor_count
        self._graphs: dict[tuple[int, Drawing], torch.cuda.CUDAGraph] = {}
        self._memory = torch.cuda.graph_pool_handle()

    def attention(self, bucket: int) -> PagedAttention:
        """Return the kernel, with as many splits as fill the device."""
        splits = splits_for(bucket * self.model.config.num_kv_heads, processors=self._processors)
        return partial(triton_paged_attention, splits=splits)

    def _run_greedy(self, buffers: StepBuffers) -> None:
        self._replay((buffers.bucket, "greedy"), partial(self.greedy_step, buffers))

    def _run_drawing(self, buffers: StepBuffers) -> None:
        self._replay((buffers.bucket, "drawing"), partial(self.drawing_step, buffers))

    def _replay(self, kind: tuple[int, Drawing], step: Callable[[], None]) -> None:
        with torch.cuda.device(self.model.device):
            if kind not in self._graphs:
                self._graphs[kind] = self._captured(step)
            self._graphs[kind].replay()

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Run a step a few times beside the current stream, which changes nothing but its outputs; then capture it."""
        current, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP_STEPS):
                step()
        current.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the application may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            step()
        return graph
