"""OpenVINO GenAI's continuous batching with its prefix cache on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers.protocol import serve
from benchmarks.peers.stepping import SteppingPeer

# The fp32 row is fp32 throughout, as agentkit's is; the others are as a user gets them, with an 8-bit KV cache.
PROPERTIES: dict[str, dict[str, Any]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {},
}


class OpenVINO:
    """A `StepEngine`."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._handles: dict[int, Any] = {}
        self._num_requests = 0

    def add(self, session: int, prompt: list[int], output_tokens: int) -> None:
        """Add a request for ids."""
        self._num_requests += 1
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = output_tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = openvino.Tensor(np.array([prompt], dtype=np.int64))
        self._handles[session] = self._pipeline.add_request(self._num_requests, ids, config)

    def step(self) -> dict[int, list[int]]:
        """Run one step of the scheduler."""
        self._pipeline.step()
        return {
            session: [token_id for output in handle.read().values() for token_id in output.generated_ids]
            for session, handle in self._handles.items()
            if handle.can_read()
        }

    def end(self) -> None:
        """Requests that have ended leave nothing but their cached blocks."""
        self._handles.clear()


def load(arguments: argparse.Namespace) -> SteppingPeer:
    """Load a folder that `openvino_convert` wrote."""
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1  # GB
    scheduler.enable_prefix_caching = True
    properties = PROPERTIES[arguments.precision] | {"INFERENCE_NUM_THREADS": arguments.threads}
    model = Path(arguments.model)
    tokenizer = openvino_genai.Tokenizer(model)
    pipeline = openvino_genai.ContinuousBatchingPipeline(model, tokenizer, scheduler, "CPU", **properties)
    return SteppingPeer(OpenVINO(pipeline))


if __name__ == "__main__":
    serve(load, "openvino", "openvino-genai")
