"""The engines that the conformance suite is run on: our own, and remote ones over servers of ours or over vLLM."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agentkit.inference.base import Engine
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.model import LlamaModel
from agentkit.inference.remote import RemoteEngine
from agentkit.inference.remote_pool import RemotePool
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.completions_server import MODEL, CompletionsServer

CONTEXT = 256
"""The context of every engine here: prompts that fill it are quick."""

VLLM_URL = "AGENTKIT_VLLM_URL"
VLLM_MODEL = "AGENTKIT_VLLM_MODEL"

OpenEngine = Callable[[], Awaitable[Engine]]


def vllm_engine(*, context_length: int | None = None) -> RemoteEngine:
    """Return an engine over the vLLM server of the environment, or skip the test."""
    url = os.environ.get(VLLM_URL)
    if not url:
        pytest.skip(f"needs a vLLM server that serves SmolLM2: set {VLLM_URL}")
    model = os.environ.get(VLLM_MODEL, "smollm2")
    return RemoteEngine(url, model, tokenizer=EMBEDDED_MODEL, context_length=context_length)


@asynccontextmanager
async def opening(kind: str, tiny_model: LlamaModel, tiny_checkpoint: Path) -> AsyncIterator[OpenEngine]:
    """Give a function that opens an engine of a kind; all are closed when the block ends."""
    async with AsyncExitStack() as closing:

        def local() -> LocalEngine:
            config = EngineConfig(context_length=CONTEXT)
            engine = LocalEngine(tiny_model, load_tokenizer(tiny_checkpoint), config, fingerprint="tiny")
            closing.push_async_callback(engine.close)
            return engine

        async def served() -> str:
            return (await closing.enter_async_context(CompletionsServer(engine=local()).serving())).url

        async def open_engine() -> Engine:
            if kind == "local":
                return local()
            remote: RemoteEngine | RemotePool
            if kind == "vllm":
                remote = vllm_engine(context_length=CONTEXT)
            elif kind == "pool":
                remote = RemotePool([await served(), await served()], MODEL, tokenizer=tiny_checkpoint)
            else:
                remote = RemoteEngine(await served(), MODEL, tokenizer=tiny_checkpoint)
            closing.push_async_callback(remote.close)
            await remote.start()
            return remote

        yield open_engine
