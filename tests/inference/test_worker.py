"""The thread that serves a scheduler: jobs, failures, closing."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import Priority, Score
from agentkit.inference.kv_cache import KVCache
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.request import ScoreRequest
from agentkit.inference.scheduler import Scheduler
from agentkit.inference.worker import Worker


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()
    worker.join()


def divide_by_zero() -> None:
    raise ZeroDivisionError("a bug")


class Panic(BaseException):
    """What a Rust library raises when it panics: no `Exception`."""


def panic() -> None:
    raise Panic


async def test_a_job_that_fails_raises_where_it_was_asked_for(worker):
    with pytest.raises(ZeroDivisionError):
        await worker.call(divide_by_zero)
    with pytest.raises(InferenceError, match="Panic"):
        await worker.call(panic)
    assert await worker.call(lambda: "alive") == "alive"


async def test_the_threads_of_torch_are_set_where_the_model_runs():
    worker = Worker(threads=1)
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


@pytest.mark.parametrize("failure", [divide_by_zero, panic])
async def test_an_engine_that_breaks_between_two_steps_ends_its_requests_and_serves_on(
    worker, tiny_model, failure
):
    scheduler = Scheduler(tiny_model, KVCache(tiny_model.new_pool(4), "tiny"), prefill_chunk=1)
    worker.serve(scheduler)

    def new_score(mailbox: Mailbox[Score]) -> ScoreRequest:
        return ScoreRequest([5, 6, 7], [1], priority=Priority.SHIELD, scope="", mailbox=mailbox)

    def submit_and_break() -> None:
        scheduler.submit(new_score(broken))
        failure()

    broken: Mailbox[Score] = Mailbox()
    served: Mailbox[Score] = Mailbox()
    worker.post(submit_and_break)
    with anyio.fail_after(10):
        with pytest.raises(InferenceError, match=r"ended all requests: (ZeroDivisionError|Panic)"):
            await broken.receive()
        worker.post(lambda: scheduler.submit(new_score(served)))
        assert (await served.receive()).usage.prompt_tokens == 3
        assert not await worker.call(lambda: scheduler.busy)
