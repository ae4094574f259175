"""The one thread that owns the device. Decides whose turn it is and keeps every KV buffer accounted for.

It takes jobs from any thread between two steps, and does not know what a request does with its logits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from agentkit.errors import AgentKitError, InferenceError
from agentkit.inference.config import EngineConfig
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.prefix_cache import PrefixCache
from agentkit.inference.request import Request

T = TypeVar("T")

EXIT_SECONDS = 10.0
"""How long the interpreter's exit waits for a step that is running in an engine nobody closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine holds between two steps: key-value bytes are either in use or cached."""

    active_requests: int
    active_bytes: int
    cached_sequences: int
    cached_tokens: int
    cached_bytes: int


class Worker:
    """Runs the active requests in rounds: everybody takes one step, the lowest priority number first.

    A step is one prefill chunk or one decoded token: nobody waits longer than one step of each of the others.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._cache = PrefixCache(config.kv_cache_bytes)
        self._active: list[Request[Any]] = []  # in order of arrival
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()  # nothing is posted behind the job that stops the thread
        self._closed = False
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="agentkit-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request[Any]) -> None:
        """Let a request take part from the next round on.

        Raises:
            InferenceError: if the worker is closed.
        """
        self._post(lambda: self._active.append(request))

    def cancel(self, request: Request[Any]) -> None:
        """Stop a request before its next step and keep what it computed; nothing happens if it has ended."""
        try:
            self._post(lambda: self._retire(request))
        except InferenceError:
            return  # closed: every request has ended

    async def call(self, job: Callable[[], T]) -> T:
        """Run a job in the thread, between two steps, and return what it returns.

        Raises:
            InferenceError: if the worker is closed.
        """
        mailbox: Mailbox[T] = Mailbox()
        self._post(lambda: mailbox.answer(job))
        return await mailbox.receive()

    async def forget(self, ids: list[int], *, keep: int, scope: str) -> None:
        """Drop what idle buffers hold of these ids past the first `keep`."""
        await self.call(lambda: self._cache.forget(ids, keep=keep, scope=scope))

    async def stats(self) -> EngineStats:
        """Return what the worker holds, after everything that was posted before."""
        return await self.call(self._stats)

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

    def _post(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise InferenceError("the engine is closed")
            self._jobs.put(job)

    def _serve(self) -> None:
        if self._config.threads is not None:
            torch.set_num_threads(self._config.threads)
        while not self._stopping:
            self._run_jobs()
            for request in sorted(self._active, key=lambda request: request.priority):
                if request in self._active:
                    self._advance(request)
                self._run_jobs()

    def _run_jobs(self) -> None:
        """Run what was posted; wait for something to do where no request is active."""
        while not self._stopping and not (self._active and self._jobs.empty()):
            self._jobs.get()()

    def _advance(self, request: Request[Any]) -> None:
        """Take one step; whatever goes wrong in it ends this request and no other."""
        try:
            if request.kv is None:
                kv = self._cache.take(request.ids[:-1], scope=request.scope)
                request.start(request.model.new_buffer() if kv is None else kv)
            request.step(self._config.prefill_chunk)
        except AgentKitError as error:
            request.fail(error)
        # The thread serves the others, whatever this is: a panic in a Rust library is no `Exception`.
        except BaseException as error:  # noqa: BLE001
            request.fail(self._translated(error, request))
        if request.finished:
            self._retire(request)

    def _retire(self, request: Request[Any]) -> None:
        """Take an ended request out, its buffer back into the cache."""
        if request not in self._active:
            return
        self._active.remove(request)
        kv, request.kv = request.kv, None
        if kv is not None:
            self._cache.put(request.ids[: kv.length], kv, scope=request.scope)

    def _translated(self, error: BaseException, request: Request[Any]) -> InferenceError:
        if is_out_of_memory(error):
            self._cache.clear()
            translated = InferenceError(
                f"out of memory with {len(request.ids)} tokens in the request and {len(self._active)} requests; "
                "run fewer at a time, or shorten the prompt"
            )
        else:
            translated = InferenceError(f"the engine failed in this request: {type(error).__name__}")
        translated.__cause__ = error
        return translated

    def _stats(self) -> EngineStats:
        return EngineStats(
            active_requests=len(self._active),
            active_bytes=sum(request.kv.nbytes for request in self._active if request.kv is not None),
            cached_sequences=len(self._cache),
            cached_tokens=self._cache.tokens,
            cached_bytes=self._cache.nbytes,
        )

    def _stop(self) -> None:
        self._stopping = True
        for request in self._active:
            request.fail(InferenceError("the engine was closed before the request was done"))
            request.kv = None
        self._active.clear()
        self._cache.clear()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch or Python could not allocate; on a CPU torch says so only in its message."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
