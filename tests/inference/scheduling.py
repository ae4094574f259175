"""Requests and schedulers for tests that look between two steps: no thread, no mailbox that wakes anybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentkit.inference.base import Priority, SamplingParams
from agentkit.inference.kv_cache import KVCache
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import LlamaModel
from agentkit.inference.request import GenerationRequest, NextTokenRequest, Request
from agentkit.inference.runner import DecodeRunner
from agentkit.inference.scheduler import Scheduler
from tests.inference.calling import token_ids

PAGE = 8


class Inbox(Mailbox[Any]):
    """Keeps what is sent, so that a test can look at it between two steps."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def send(self, value):
        self.received.append(value)
        return True


class RecordingRequest(NextTokenRequest[str]):
    """Takes a fixed number of tokens and writes each of its steps into a shared journal."""

    def __init__(
        self,
        journal: list[str],
        name: str,
        *,
        prompt: int = 4,
        tokens: int = 2,
        priority: Priority = Priority.INTERACTIVE,
        failure: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(token_ids(prompt), priority=priority, scope=name, mailbox=Inbox())
        self.journal, self.name, self.failure, self.tokens = journal, name, failure, tokens

    def part(self, count):
        self.journal.append(f"{self.name} {count}")
        return super().part(count)

    def _use(self, output):
        if self.failure is not None:
            self.failure()
        self.ids.append(7)
        self.finished = len(self.ids) - self._prompt_tokens >= self.tokens


def new_scheduler(
    model: LlamaModel,
    *,
    num_pages: int = 400,
    prefill_chunk: int = 16,
    runner: Callable[[LlamaModel, PagePool], DecodeRunner] | None = None,
) -> Scheduler:
    pool = model.new_pool(num_pages, PAGE)
    return Scheduler(
        model,
        KVCache(pool, "tiny"),
        prefill_chunk=prefill_chunk,
        runner=None if runner is None else runner(model, pool),
    )


def generation(
    prompt, *, max_tokens=8, priority=Priority.INTERACTIVE, scope="", **params
) -> GenerationRequest:
    return GenerationRequest(
        prompt,
        SamplingParams(max_tokens=max_tokens, **params),
        grammar=None,
        tokenizer=None,  # type: ignore[arg-type]  # only a grammar needs one
        context_length=4096,
        priority=priority,
        scope=scope,
        mailbox=Inbox(),
    )


def steps(scheduler: Scheduler, journal: list[str]) -> list[list[str]]:
    """Run to the end; return the journal of each step."""
    taken = []
    while scheduler.busy:
        journal.clear()
        scheduler.step()
        taken.append(list(journal))
        assert len(taken) < 10_000
    return taken


def drain(scheduler: Scheduler) -> None:
    """Run to the end."""
    while scheduler.busy:
        scheduler.step()


def drawn(request: GenerationRequest) -> list[int]:
    received = request._mailbox.received  # type: ignore[attr-defined]
    failed = [message for message in received if isinstance(message, Exception)]
    if failed:
        raise failed[0]
    return [token.id for token in received]


def error_of(request: Request[Any]) -> Exception:
    (error,) = request._mailbox.received  # type: ignore[attr-defined]
    assert isinstance(error, Exception)
    return error
