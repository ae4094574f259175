"""Whose turn it is in the worker thread, and what a request that fails does to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import Priority
from agentkit.inference.config import EngineConfig
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import LlamaModel
from agentkit.inference.request import Request
from agentkit.inference.worker import Worker
from tests.inference.calling import token_ids


class RecordingRequest(Request[str]):
    """Takes a fixed number of tokens and writes each of its steps into a shared journal."""

    def __init__(
        self,
        model: LlamaModel,
        journal: list[str],
        name: str,
        *,
        tokens: int = 2,
        priority: Priority = Priority.INTERACTIVE,
        failure: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            model, token_ids(4), max_tokens=tokens, priority=priority, scope=name, mailbox=Mailbox()
        )
        self.journal, self.name, self.failure = journal, name, failure

    def _use(self, logits):
        self.journal.append(self.name)
        if self.failure is not None:
            self.failure()
        self.ids.append(7)
        self.finished = len(self.ids) - self._prompt_tokens >= self._max_tokens
        if self.finished:
            self._mailbox.send(f"{self.name} is done")

    async def result(self) -> str:
        return await self._mailbox.receive()


@pytest.fixture
def worker():
    worker = Worker(EngineConfig())
    yield worker
    worker.close()
    worker.join()


async def run_together(worker, *requests) -> None:
    """Submit all requests before the first of them takes a step."""
    everybody_is_there = threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(worker.call, everybody_is_there.wait)
        await anyio.lowlevel.checkpoint()
        for request in requests:
            worker.submit(request)
        everybody_is_there.set()


async def test_each_round_gives_everybody_one_step_lowest_priority_number_first(worker, tiny_model):
    journal: list[str] = []
    background, first, second, shield = (
        RecordingRequest(tiny_model, journal, "background", priority=Priority.BACKGROUND),
        RecordingRequest(tiny_model, journal, "first"),
        RecordingRequest(tiny_model, journal, "second", tokens=3),
        RecordingRequest(tiny_model, journal, "shield", priority=Priority.SHIELD, tokens=1),
    )
    await run_together(worker, background, first, second, shield)
    assert await background.result() == "background is done"
    assert await second.result() == "second is done"
    one_round = ["first", "second", "background"]
    assert journal == ["shield", *one_round, *one_round, "second"]


def divide_by_zero() -> None:
    raise ZeroDivisionError("a bug")


def allocate_too_much() -> None:
    torch.empty(1 << 60)


def python_runs_out() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("failure", "message", "cause"),
    [
        (divide_by_zero, "the engine failed in this request: ZeroDivisionError", ZeroDivisionError),
        (
            allocate_too_much,
            "out of memory with 4 tokens in the request and 2 requests",
            RuntimeError,
        ),
        (python_runs_out, "out of memory", MemoryError),
    ],
)
async def test_a_request_that_fails_fails_alone(worker, tiny_model, failure, message, cause):
    failing = RecordingRequest(tiny_model, [], "failing", failure=failure)
    other = RecordingRequest(tiny_model, [], "other")
    await run_together(worker, failing, other)
    with pytest.raises(InferenceError, match=message) as raised:
        await failing.result()
    assert type(raised.value.__cause__) is cause
    assert await other.result() == "other is done"
    stats = await worker.stats()
    assert (stats.active_requests, stats.active_bytes) == (0, 0)


async def test_running_out_of_memory_empties_the_cache(worker, tiny_model):
    await run_together(worker, RecordingRequest(tiny_model, [], "before"))
    failing = RecordingRequest(tiny_model, [], "failing", failure=allocate_too_much)
    worker.submit(failing)
    with pytest.raises(InferenceError, match="out of memory"):
        await failing.result()
    stats = await worker.stats()
    assert stats.cached_tokens == 4  # what the failing request itself had computed


async def test_a_job_that_fails_raises_where_it_was_asked_for(worker):
    with pytest.raises(ZeroDivisionError):
        await worker.call(divide_by_zero)
    assert await worker.call(lambda: "alive") == "alive"


async def test_the_threads_of_torch_are_set_where_the_model_runs():
    worker = Worker(EngineConfig(threads=1))
    assert await worker.call(torch.get_num_threads) == 1
    worker.close()
    worker.join()


async def test_everything_posted_before_closing_is_still_answered(worker):
    answers = []

    async def ask() -> None:
        answers.append(await worker.call(lambda: "done"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        worker.close()
    assert answers == ["done"]
    with pytest.raises(InferenceError, match="the engine is closed"):
        await worker.call(lambda: "late")


class Panic(BaseException):
    """What a Rust library raises when it panics: no `Exception`."""


async def test_a_panic_in_a_step_or_a_job_leaves_the_thread_serving(worker, tiny_model):
    def panic() -> None:
        raise Panic

    request = RecordingRequest(tiny_model, [], "panicking", failure=panic)
    worker.submit(request)
    with anyio.fail_after(10):
        with pytest.raises(InferenceError, match="Panic"):
            await request.result()
        with pytest.raises(InferenceError, match="Panic"):
            await worker.call(panic)
        assert (await worker.stats()).active_requests == 0
