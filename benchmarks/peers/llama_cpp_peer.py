"""llama.cpp through llama-cpp-python's low-level calls, which batch several sessions as its server does."""

from __future__ import annotations

import argparse
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.peers.protocol import serve
from benchmarks.peers.stepping import SYSTEM, SteppingPeer

MAX_SESSIONS = 8
KV_TOKENS = 24_576  # 1.1 GB in fp32, as the other engines have
BATCH_TOKENS = 2_048  # llama.cpp's default


class LlamaCpp:
    """A `StepEngine`: every session is a llama.cpp sequence, whose KV stays until `end`."""

    def __init__(self, path: str, *, threads: int, fp32_kv: bool) -> None:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = KV_TOKENS
        params.n_batch = BATCH_TOKENS
        params.n_seq_max = MAX_SESSIONS + 1
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True  # else every sequence has its fixed share of the cells
        if fp32_kv:
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise RuntimeError("llama.cpp cannot make a context")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._computed: dict[int, int] = {}  # tokens whose KV a session has
        self._to_compute: dict[int, list[int]] = {}
        self._to_generate: dict[int, int] = {}

    def add(self, session: int, prompt: list[int], output_tokens: int) -> None:
        """Queue what the session has not computed yet."""
        if session not in self._computed:
            self._computed[session] = self._computed.get(SYSTEM, 0)
            llama_cpp.llama_memory_seq_cp(self._memory, SYSTEM + 1, session + 1, -1, -1)
        self._to_compute[session] = prompt[self._computed[session] :]
        self._to_generate[session] = output_tokens

    def step(self) -> dict[int, list[int]]:
        """Decode one batch: short queues, which are decodes, before long ones, which are prompts."""
        self._batch.n_tokens = 0
        ends: dict[int, int] = {}
        for session in sorted(self._to_compute, key=lambda number: len(self._to_compute[number])):
            if self._fill(session):
                ends[session] = self._batch.n_tokens - 1
        code = llama_cpp.llama_decode(self._context, self._batch)
        if code:
            raise RuntimeError(f"llama_decode answered {code} on {self._batch.n_tokens} tokens")
        return {session: [self._draw(session, index)] for session, index in ends.items()}

    def end(self) -> None:
        """Forget every sequence."""
        llama_cpp.llama_memory_clear(self._memory, False)
        self._computed.clear()

    def _fill(self, session: int) -> bool:
        """Add to the batch what fits of a session's queue; return whether that was all of it."""
        room = BATCH_TOKENS - self._batch.n_tokens
        queue = self._to_compute[session]
        for token_id in queue[:room]:
            index = self._batch.n_tokens
            self._batch.token[index] = token_id
            self._batch.pos[index] = self._computed[session]
            self._batch.n_seq_id[index] = 1
            self._batch.seq_id[index][0] = session + 1
            self._batch.logits[index] = False
            self._batch.n_tokens += 1
            self._computed[session] += 1
        del queue[:room]
        if queue or not room:
            return False
        self._batch.logits[self._batch.n_tokens - 1] = True
        return True

    def _draw(self, session: int, index: int) -> int:
        """Return the most likely next token, and queue it where more are to come."""
        logits: Any = llama_cpp.llama_get_logits_ith(self._context, index)
        token_id = int(np.argmax(np.ctypeslib.as_array(logits, shape=(self._vocab_size,))))
        self._to_generate[session] -= 1
        if self._to_generate[session]:
            self._to_compute[session] = [token_id]
        else:
            del self._to_compute[session]
        return token_id


def load(arguments: argparse.Namespace) -> SteppingPeer:
    """Load a GGUF file; the KV is fp32 where the weights are, else f16 as users get it."""
    fp32 = arguments.precision == "fp32"
    return SteppingPeer(LlamaCpp(arguments.model, threads=arguments.threads, fp32_kv=fp32))


if __name__ == "__main__":
    serve(load, "llama-cpp-python")
