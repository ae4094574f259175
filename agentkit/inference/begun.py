"""Requests of an engine's callers on their way: served while a block runs, or begun before anybody waits for tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

from agentkit.errors import InferenceError
from agentkit.inference.base import GeneratedToken
from agentkit.inference.generation import GenerationRequest
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.observed import ObservedStates
from agentkit.inference.request import Request
from agentkit.inference.scheduler import Scheduler
from agentkit.inference.worker import Worker


@contextmanager
def submitted(request: Request[Any], worker: Worker, scheduler: Scheduler) -> Iterator[None]:
    """Have a request served until the block ends, however it does."""
    worker.post(lambda: scheduler.submit(request))
    try:
        yield
    finally:
        with suppress(InferenceError):  # closed: every request has ended
            worker.post(lambda: scheduler.cancel(request))


class BegunGeneration:
    """Gives the tokens of a request, which is computed whether or not anybody waits for them.

    Whoever began it ends it, with `cancel` or `drop`; ending twice changes nothing. `states` are those that it
    was asked to take along.
    """

    def __init__(
        self,
        request: GenerationRequest,
        mailbox: Mailbox[GeneratedToken],
        *,
        worker: Worker,
        scheduler: Scheduler,
        states: ObservedStates | None = None,
    ) -> None:
        """Begin.

        Raises:
            InferenceError: if the engine is closed.
        """
        self.states = states
        self._request = request
        self._mailbox = mailbox
        self._worker = worker
        self._scheduler = scheduler
        self._ended = False
        worker.post(lambda: scheduler.submit(request))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> GeneratedToken:
        if self._ended:
            raise StopAsyncIteration
        self._ended = True  # unless a token comes, and is not the last
        token = await self._mailbox.receive()
        self._ended = token.stop_reason is not None
        return token

    def cancel(self) -> None:
        """Stop before the next token; what was computed stays cached."""
        self._end()
        with suppress(InferenceError):  # closed: every request has ended
            self._worker.post(lambda: self._scheduler.cancel(self._request))

    async def drop(self, *, keep: int) -> None:
        """Stop, and forget what was computed past the first `keep` ids; what had been cached before stays.

        Nothing of it is cached any more when this returns.
        """
        self._end()
        with suppress(InferenceError):  # closed: nothing is cached any more
            await self._worker.call(lambda: self._forget(keep))

    def _end(self) -> None:
        self._ended = True
        if self.states is not None:
            self.states.give_up()

    def _forget(self, keep: int) -> None:
        self._scheduler.cancel(self._request)
        found = self._request.found_tokens
        if found is not None:
            self._scheduler.cache.forget(self._request.ids, keep=max(keep, found), scope=self._request.scope)
