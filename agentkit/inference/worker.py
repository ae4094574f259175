"""The one thread that owns the device: it takes jobs from any thread between two steps of a scheduler.

Knows no requests and no memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

import torch

from agentkit.errors import InferenceError
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.scheduler import Scheduler

T = TypeVar("T")

EXIT_SECONDS = 10.0
"""How long the interpreter's exit waits for a step that is running in an engine nobody closed."""


class Worker:
    """Runs jobs in their order, and between them the steps of the scheduler that it serves."""

    def __init__(self, *, threads: int | None = None) -> None:
        """Start the thread; `threads` are torch's in it."""
        self._threads = threads
        self._scheduler: Scheduler | None = None
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()  # nothing is posted behind the job that stops the thread
        self._closed = False
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="agentkit-engine", daemon=True)
        self._thread.start()

    def serve(self, scheduler: Scheduler) -> None:
        """Run the steps of a scheduler from now on; jobs posted before have run by then."""
        self.post(lambda: setattr(self, "_scheduler", scheduler))

    def post(self, job: Callable[[], None]) -> None:
        """Run a job in the thread, between two steps.

        Raises:
            InferenceError: if the worker is closed, or this is a fork of its process, which has no such thread.
        """
        with self._lock:
            if self._closed:
                raise InferenceError("the engine is closed")
            if not self._thread.is_alive():
                raise InferenceError(
                    "a fork of a process has none of its engines' threads; open an engine here"
                )
            self._jobs.put(job)

    async def call(self, job: Callable[[], T]) -> T:
        """Run a job in the thread, between two steps, and return what it returns.

        Raises:
            InferenceError: if the worker is closed.
        """
        mailbox: Mailbox[T] = Mailbox()
        self.post(lambda: mailbox.answer(job))
        return await mailbox.receive()

    def close(self) -> None:
        """Ask the thread to stop after its running step: its requests end with an InferenceError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(self._stop)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout)

    def close_at_exit(self) -> None:
        """Stop the thread while the interpreter can still run it."""
        self.close()
        if threading.current_thread() is not self._thread:
            self.join(EXIT_SECONDS)

    def _serve(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while not self._stopping:
            try:
                self._run_jobs()
                if self._scheduler is not None and self._scheduler.busy:
                    self._scheduler.step()
            # The thread lives on, whatever this is: without it, every caller would wait for ever.
            except BaseException as error:  # noqa: BLE001
                self._end_all(error)

    def _run_jobs(self) -> None:
        """Run what was posted; wait for something to do where the scheduler has nothing."""
        while not self._stopping and not (self._busy and self._jobs.empty()):
            self._jobs.get()()

    @property
    def _busy(self) -> bool:
        return self._scheduler is not None and self._scheduler.busy

    def _end_all(self, error: BaseException) -> None:
        failure = InferenceError(f"the engine failed and ended all requests: {type(error).__name__}")
        failure.__cause__ = error
        if self._scheduler is not None:
            self._scheduler.stop(failure)

    def _stop(self) -> None:
        self._stopping = True
        if self._scheduler is not None:
            self._scheduler.stop(InferenceError("the engine was closed before the request was done"))
            self._scheduler = None
