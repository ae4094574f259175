"""Puts each turn of a session to another worker, as a load balancer without stickiness would. Measures nothing."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from benchmarks.load_vllm.jobs import Done, Job

TENANTS: Final = 8
"""Sessions of one tenant share what is cached of their agent's instructions; those of two share nothing."""


class Worker:
    """A worker process. Answers come in any order."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: dict[int, anyio.Event] = {}
        self._answers: dict[int, Done] = {}
        self._numbers = itertools.count()
        self.ready = anyio.Event()

    async def ask(self, session: str, text: str) -> Done:
        """Have a turn of a session run."""
        number = next(self._numbers)
        answered = self._waiting[number] = anyio.Event()
        line = Job(id=number, session=session, text=text).to_line() + "\n"
        assert self._process.stdin is not None
        await self._process.stdin.send(line.encode())
        await answered.wait()
        del self._waiting[number]
        return self._answers.pop(number)

    async def listen(self) -> None:
        """Receive the answers until the worker has ended."""
        assert self._process.stdout is not None
        rest = ""
        async for part in TextReceiveStream(self._process.stdout):
            *lines, rest = (rest + part).split("\n")
            for line in lines:
                self._hear(line)
        if self._waiting or not self.ready.is_set():
            raise RuntimeError(f"a worker has ended, and {len(self._waiting)} of its jobs have not")

    def _hear(self, line: str) -> None:
        if line == "ready":
            self.ready.set()
            return
        done = Done.from_line(line)
        self._answers[done.id] = done
        self._waiting[done.id].set()


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of all jobs, and how long they took together."""

    seconds: float = 0.0
    done: list[Done] = field(default_factory=list)


def session_names(count: int, *, tenants: str) -> list[str]:
    """Return the sessions' names, of a few tenants whose names begin alike."""
    return [f"{tenants}-{number % TENANTS}/{number}" for number in range(count)]


async def drive(workers: Sequence[Worker], sessions: Sequence[str], *, seconds: float) -> Outcome:
    """Run turn after turn in all sessions at once; a turn that has begun when the time is over is waited for."""
    outcome, begun = Outcome(), monotonic()

    async def talk(number: int, session: str) -> None:
        for turn in itertools.count():
            if monotonic() - begun > seconds:
                return
            worker = workers[(number + turn) % len(workers)]
            outcome.done.append(await worker.ask(session, f"Order {number * 1_000 + turn} has arrived."))

    async with anyio.create_task_group() as tasks:
        for number, session in enumerate(sessions):
            tasks.start_soon(talk, number, session)
    outcome.seconds = monotonic() - begun
    return outcome


@asynccontextmanager
async def running_workers(database: str, urls: Sequence[str], count: int = 2) -> AsyncIterator[list[Worker]]:
    """Run workers while the block runs."""
    command = [sys.executable, "-m", "benchmarks.load_vllm.worker", database, *urls]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [await anyio.open_process(command, stderr=None, env=environment) for _ in range(count)]
    try:
        async with anyio.create_task_group() as tasks:
            workers = [Worker(process) for process in processes]
            for worker in workers:
                tasks.start_soon(worker.listen)
            for worker in workers:
                await worker.ready.wait()
            yield workers
            for process in processes:
                assert process.stdin is not None
                await process.stdin.aclose()
    finally:
        for process in processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()
