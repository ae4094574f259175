"""A tiny engine from real files, shared by the tests of this room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.model import LlamaModel
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.calling import fresh_scope
from tests.inference.tiny import TINY_CONTEXT, build_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    return build_tiny_checkpoint(tmp_path_factory.mktemp("tiny"), context_length=TINY_CONTEXT)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint) -> LlamaModel:
    loaded = load_checkpoint(tiny_checkpoint)
    return LlamaModel(loaded.config, loaded.tensors)


@pytest.fixture(scope="session")
def engine(tiny_checkpoint) -> Iterator[LocalEngine]:
    """One engine for all tests, which keep apart by their scopes; every test is another event loop to it."""
    engine = anyio.run(LocalEngine.load, str(tiny_checkpoint), EngineConfig(prefill_chunk=16))
    yield engine
    anyio.run(engine.close)


@pytest.fixture
async def open_engine(tiny_model, tiny_checkpoint) -> AsyncIterator[Callable[..., LocalEngine]]:
    """Return a function that opens an engine of one's own, closed after the test."""
    engines: list[LocalEngine] = []

    def open_engine(**config) -> LocalEngine:
        tokenizer = load_tokenizer(tiny_checkpoint)
        engines.append(LocalEngine(tiny_model, tokenizer, EngineConfig(**config), fingerprint="tiny"))
        return engines[-1]

    yield open_engine
    for engine in engines:
        await engine.close()


@pytest.fixture
def scope() -> str:
    return fresh_scope()
