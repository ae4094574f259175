"""Who takes part in the next step of the device, and who waits for memory. Knows no threads and no async.

A step is one forward pass: a chunk of prompts that shields wait for, or else one token for every request that
decodes and, beside them, one chunk of the other prompts. Where nothing but decoding is due, requests may draft tokens
that the same pass verifies. Where there is a better way to decode than torch's operators, those that decode are a pass
of their own.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from agentkit.errors import InferenceError
from agentkit.inference.base import Priority
from agentkit.inference.failures import translated
from agentkit.inference.kv_cache import KVCache
from agentkit.inference.model import LlamaModel, Output
from agentkit.inference.request import Request
from agentkit.inference.runner import DecodeRunner
from agentkit.inference.speculation import Speculation
from agentkit.inference.speed import Speed
from agentkit.inference.stats import EngineStats

AnyRequest: TypeAlias = Request[Any]

FAIR_CHUNK = 4
"""The prompt with the shortest rest goes first, but every so many chunks the one that came first does."""


class Scheduler:
    """Serves requests by priority, and decoding ones all at once.

    A request is admitted when there are pages for all its ids. Where one that decodes finds no page, the youngest
    of the lowest priority gives up its own; it is resumed later, with the same output.
    """

    def __init__(
        self,
        model: LlamaModel,
        cache: KVCache,
        *,
        prefill_chunk: int,
        runner: DecodeRunner | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        """Serve with a model; `runner` is what decodes, where the device has a better way than the model's own."""
        self._model = model
        self._runner = runner
        # A runner's steps have one token of each sequence.
        self._speculation = speculation if runner is None else None
        self.cache = cache
        self.prefill_speed = Speed()  # of steps that have a chunk in them, in tokens
        self._prefill_chunk = prefill_chunk
        self._arrivals = itertools.count()
        # Everybody here, by priority and then arrival.
        self._ranks: dict[AnyRequest, tuple[int, int]] = {}
        # Those without memory, and how many tokens they are likely to prefill.
        self._waiting: dict[AnyRequest, int] = {}
        self._running: list[AnyRequest] = []
        # There was no room for it: nobody ranked behind it is admitted first.
        self._starved: AnyRequest | None = None
        self._chunks = 0
        self._verdicts_last = False
        self._preemptions = 0
        # Of requests that have ended.
        self._drafted_tokens = self._accepted_tokens = 0

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return bool(self._ranks)

    def warm_up(self) -> None:
        """Prepare what the first requests would wait for."""
        if self._runner is not None:
            self._runner.warm_up()

    def submit(self, request: AnyRequest) -> None:
        """Let a request take part from the next step on."""
        self._ranks[request] = (request.priority, next(self._arrivals))
        self._await(request)

    def cancel(self, request: AnyRequest) -> None:
        """Take a request out and keep what it computed; nothing happens if it has ended."""
        if request in self._ranks:
            self._give_back(request)
            self._waiting.pop(request, None)
            del self._ranks[request]
            self._drafted_tokens += request.drafted_tokens
            self._accepted_tokens += request.accepted_tokens
            if self._starved is request:
                self._starved = None

    def step(self) -> None:
        """Run one forward pass for those whose turn it is, and hand out what it gave."""
        # Decoding goes on between two chunks of a shield's prompts.
        decodes_now = self._verdicts_last and any(request.decoding for request in self._running)
        chosen = [] if decodes_now else self._chunk(Priority.SHIELD)
        self._verdicts_last = bool(chosen)
        decoding = [] if chosen else [(request, 1) for request in self._with_room()]
        if not chosen and not decodes_now:
            chosen = self._chunk(Priority.INTERACTIVE) or self._chunk(Priority.BACKGROUND)
        if self._speculation is not None and not (chosen or decodes_now):
            requests = [request for request, _ in decoding if request.kv is not None]
            for request, draft in self._speculation.drafts(requests, most=self._prefill_chunk):
                self._guarded(request, draft)
        # To make room for one of them may have taken the pages of another.
        able = [(request, count) for request, count in [*decoding, *chosen] if request.kv is not None]
        for together in self._passes(able):
            self._run(together)

    def stop(self, error: Exception) -> None:
        """End every request with an error, and drop everything that is cached."""
        for request in list(self._ranks):
            request.fail(error)
            self.cancel(request)
        self.cache.clear()

    def stats(self) -> EngineStats:
        """Return what is held now."""
        nodes = self.cache.tree.nodes
        return EngineStats(
            active_requests=len(self._ranks),
            active_bytes=self.cache.active_bytes,
            cached_sequences=sum(not node.children for node in nodes),
            cached_tokens=sum(len(node.ids) for node in nodes),
            cached_bytes=self.cache.cached_bytes,
            free_bytes=self.cache.pool.free_pages * self.cache.pool.page_bytes,
            preemptions=self._preemptions,
            drafted_tokens=self._drafted_tokens + sum(request.drafted_tokens for request in self._ranks),
            accepted_tokens=self._accepted_tokens + sum(request.accepted_tokens for request in self._ranks),
            host=self.cache.host.stats() if self.cache.host else None,
            weight_bytes=self._model.weight_bytes,
            kv_token_bytes=self.cache.pool.page_bytes // self.cache.pool.page_tokens,
            decoding="runner" if self._runner else "compiled" if self._model.compiled else "torch",
        )

    # Whose turn it is

    def _with_room(self) -> list[AnyRequest]:
        """Return those that decode and have a page for their next token."""
        decoding = [request for request in self._running if request.decoding]
        return [
            request for request in sorted(decoding, key=self._ranks.__getitem__) if self._finds_room(request)
        ]

    def _chunk(self, priority: Priority) -> list[tuple[AnyRequest, int]]:
        """Return whose prompts make up the next chunk of a priority, and how many tokens of each."""
        chosen: list[tuple[AnyRequest, int]] = []
        budget = self._prefill_chunk
        for request in self._prefill_order(priority):
            if request.kv is not None or (
                not self._gains_by_waiting(request, chosen) and self._admit(request)
            ):
                count = min(budget, request.pending)
                chosen.append((request, count))
                budget -= count
            if budget == 0:
                break
        self._chunks += bool(chosen)
        return chosen

    def _prefill_order(self, priority: Priority) -> list[AnyRequest]:
        unfinished = [*self._waiting, *(request for request in self._running if not request.decoding)]
        wanted = [request for request in unfinished if request.priority == priority]
        wanted.sort(key=self._ranks.__getitem__)
        if self._chunks % FAIR_CHUNK != FAIR_CHUNK - 1:
            wanted.sort(key=lambda request: self._waiting.get(request, request.pending))
        return wanted

    def _gains_by_waiting(self, request: AnyRequest, chosen: list[tuple[AnyRequest, int]]) -> bool:
        """Whether this very chunk computes a page that a waiting request could have from the cache after it."""
        page_tokens = self.cache.pool.page_tokens
        cached = self.cache.matched_tokens(request.ids, scope=request.scope)
        end = cached - cached % page_tokens + page_tokens
        return end <= request.reusable and any(
            other.scope == request.scope
            and other.cacheable
            and other.kv is not None
            and other.kv.length + count >= end
            and other.ids[:end] == request.ids[:end]
            for other, count in chosen
        )

    # Memory

    def _await(self, request: AnyRequest) -> None:
        cached = self.cache.matched_tokens(request.ids, scope=request.scope)
        self._waiting[request] = len(request.ids) - cached

    def _admit(self, request: AnyRequest) -> bool:
        """Give a waiting request what is cached of its ids and pages for the rest; False if it has to wait."""
        if self._starved is not None and self._ranks[self._starved] < self._ranks[request]:
            return False
        request.kv, miss = self.cache.open(request.ids[: request.reusable], scope=request.scope)
        # A page is left for everybody who runs: else they would soon take this one's again.
        while not self.cache.reserve(request.kv, len(request.ids), spare=len(self._running)):
            if self._preempt_behind((request.priority, math.inf)):
                continue
            if self._running:
                self._give_back(request)
                self._starved = request
                return False
            if not self._gets_room_alone(request):
                return False
        if self._starved is request:
            self._starved = None
        del self._waiting[request]
        self._running.append(request)
        return self._guarded(request, partial(request.begin, request.kv, miss))

    def _finds_room(self, request: AnyRequest) -> bool:
        """Get a page for the next token where one is needed; False if the request has to wait or has ended."""
        if request.kv is None:
            return False
        while not self.cache.reserve(request.kv, len(request.ids)):
            if self._preempt_behind(self._ranks[request]):
                continue
            if len(self._running) > 1:
                self._preempt(request)
                return False
            if not self._gets_room_alone(request):
                return False
        return True

    def _gets_room_alone(self, request: AnyRequest) -> bool:
        """Where nobody else runs, a pin has to go; without one the request can never go on, and ends."""
        if self.cache.drop_oldest_pin():
            return True
        pool = self.cache.pool
        request.fail(
            InferenceError(
                f"the KV cache holds {pool.capacity} tokens, the request has {len(request.ids)}; "
                "raise kv_cache_bytes, or shorten the prompt"
            )
        )
        self.cancel(request)
        return False

    def _preempt_behind(self, rank: tuple[int, float]) -> bool:
        """Take the memory of the last who runs, if that one comes behind the rank."""
        last = max(self._running, key=self._ranks.__getitem__, default=None)
        if last is None or self._ranks[last] <= rank:
            return False
        self._preempt(last)
        return True

    def _preempt(self, request: AnyRequest) -> None:
        self._give_back(request)
        self._await(request)
        self._preemptions += 1

    def _give_back(self, request: AnyRequest) -> None:
        """Leave what a request has computed to the cache, if it is of use there."""
        kv, request.kv = request.kv, None
        if kv is not None and not request.cacheable:
            self.cache.drop(kv)
        elif kv is not None:
            self.cache.close(
                kv,
                request.ids,
                scope=request.scope,
                public_tokens=request.public_prefix,
                disposable=request.disposable,
            )
        if request in self._running:
            self._running.remove(request)

    # Steps

    def _passes(self, chosen: list[tuple[AnyRequest, int]]) -> list[list[tuple[AnyRequest, int]]]:
        """Part those that decode from those that prefill, unless the model runs both in the same way."""
        if self._runner is None and not self._model.compiled:
            return [chosen]
        return [
            [(request, count) for request, count in chosen if request.decoding],
            [(request, count) for request, count in chosen if not request.decoding],
        ]

    def _run(self, chosen: list[tuple[AnyRequest, int]]) -> None:
        """Run one pass; if it fails, each request runs alone, and whatever goes wrong then ends that one only."""
        if not chosen:
            return
        counts = [count for _, count in chosen]
        rows = len(chosen) + sum(len(request.draft) for request, _ in chosen)
        started_at = time.perf_counter()
        try:
            outputs = self._compute(chosen)
        except BaseException as error:  # noqa: BLE001  # a panic in a Rust library is no `Exception`
            if len(chosen) > 1:
                for one in chosen:
                    self._run([one])
            else:
                self._end(chosen[0][0], error)
            return
        seconds = time.perf_counter() - started_at
        if sum(counts) > len(counts):
            if all(request.cacheable for request, _ in chosen):
                self.prefill_speed.measured(sum(counts), seconds)
        elif self._speculation is not None:
            self._speculation.costs.measured(seconds, rows=rows, sequences=len(chosen))
        for (request, count), output in zip(chosen, outputs, strict=True):
            if count > 1 and request.kv is not None and request.cacheable:
                self.cache.share(
                    request.kv,
                    request.ids,
                    scope=request.scope,
                    public_tokens=request.public_prefix,
                    disposable=request.disposable,
                )
            self._guarded(request, partial(request.take, output))

    def _compute(self, chosen: list[tuple[AnyRequest, int]]) -> list[Output]:
        if self._runner is not None and chosen[0][0].decoding:
            return self._runner.decode([request.row() for request, _ in chosen])
        return self._model.forward_parts([request.part(count) for request, count in chosen])

    def _guarded(self, request: AnyRequest, action: Callable[[], None]) -> bool:
        """Let a request act; whatever goes wrong in it ends this request and no other. False if it has ended."""
        try:
            action()
        except BaseException as error:  # noqa: BLE001  # the others are served, whatever this is
            self._end(request, error)
        if request.finished:
            self.cancel(request)
        return not request.finished

    def _end(self, request: AnyRequest, error: BaseException) -> None:
        request.fail(translated(error, tokens=len(request.ids), requests=len(self._ranks)))
        self.cancel(request)
