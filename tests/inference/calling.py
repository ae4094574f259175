"""What the engine's tests share: prompts of the tiny vocabulary, whole calls, waiting for the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import anyio
import torch

from agentkit.inference.base import Completion, SamplingParams, collect
from agentkit.inference.engine import LocalEngine
from agentkit.inference.model import LlamaModel
from agentkit.inference.stats import EngineStats

_scope_numbers = count()


def fresh_scope() -> str:
    """Return a cache scope that nobody used before."""
    return f"scope {next(_scope_numbers)}"


def token_ids(length: int, start: int = 0) -> list[int]:
    """Return plain ids of the tiny vocabulary; another start gives another sequence."""
    return [10 + (start * 7 + index * 37) % 300 for index in range(length)]


def greedy_ids(model: LlamaModel, prompt: Sequence[int], length: int) -> list[int]:
    """Return what the model says when every token is computed from the start, without a cache."""
    ids = list(prompt)
    for _ in range(length):
        ids.append(int(model.forward(torch.tensor(ids), model.new_buffer())[0].argmax()))
    return ids[len(prompt) :]


async def generate_all(
    engine: LocalEngine, prompt: Sequence[int], scope: str = "", **params: Any
) -> Completion:
    """Generate to the end and return the whole."""
    return await collect(engine.generate(prompt, SamplingParams(**params), scope=scope))


async def wait_for(engine: LocalEngine, wanted: Callable[[EngineStats], bool]) -> None:
    """Wait until the engine's facts are the wanted ones."""
    with anyio.fail_after(60):
        while not wanted(await engine.stats()):  # noqa: ASYNC110  # the worker tells nobody
            await anyio.sleep(0.001)


async def assert_nothing_in_use(engine: LocalEngine) -> None:
    """Check that no request and no buffer is in use, right now."""
    stats = await engine.stats()
    assert (stats.active_requests, stats.active_bytes) == (0, 0)
