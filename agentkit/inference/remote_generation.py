"""One generation on a model server, taken up again where its stream broke. Knows no sessions and no retries.

What was received is never taken for the whole before the server has said why it ended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from agentkit.errors import GrammarError, InferenceError, RemoteError
from agentkit.inference.base import SamplingParams, StopReason, Usage
from agentkit.inference.grammar import GrammarMatcher
from agentkit.inference.remote_answers import COMPLETIONS, cached_tokens, first_choice
from agentkit.inference.remote_server import ModelServer
from agentkit.inference.remote_wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """New ids of an output. The last part says why it ended, and what the call cost."""

    ids: tuple[int, ...]
    stop_reason: StopReason | None = None
    usage: Usage | None = None


class RemoteGeneration:
    """An output that is received part by part. `next_part` may be called again after a transient fault.

    Without a grammar the output goes on after what was received. A grammar cannot be entered in its middle, so under
    one the output is drawn again from the beginning, and has to begin as before.
    """

    def __init__(
        self,
        server: ModelServer,
        wire: Wire,
        *,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        options: Mapping[str, Any],
        context_length: int,
        matcher: GrammarMatcher | None,
    ) -> None:
        self._server = server
        self._wire = wire
        self._prompt_ids = list(prompt_ids)
        self._params = params
        self._options = options
        self._context_length = context_length
        self._most = min(params.max_tokens, context_length - len(prompt_ids))
        self._matcher = matcher
        self._received: list[int] = []
        self._position = 0
        self._events: AsyncGenerator[Mapping[str, Any], None] | None = None
        self._begun = perf_counter()
        self._first: float | None = None

    async def next_part(self) -> Part:
        """Wait for new ids.

        Raises:
            RemoteError: if the server fails, or breaks off; if that is transient, this may be called again.
            ContextLengthError: if the server finds the prompt too long.
            GrammarError: if the server does not hold to the grammar.
        """
        try:
            return await self._next_part()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the request, if one is open; the server then stops generating."""
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()

    async def _next_part(self) -> Part:
        if self._events is None:
            if (
                len(self._received) == self._most
            ):  # it broke between its last token and the word that it was that
                return Part(ids=(), stop_reason=self._full(), usage=self._usage(None))
            self._events = self._open()
        async for event in self._events:
            choice = first_choice(event)
            ids = self._take(self._wire.ids_of(choice))
            stopped = bool(ids) and ids[-1] in self._params.stop_ids
            finished = choice.get("finish_reason") is not None
            if stopped or finished:
                stop_reason = StopReason.STOP_TOKEN if stopped else self._end(choice, ids)
                # A server that would go on after a stop id is not waited for.
                cached = await self._told_cached(self._events) if finished else None
                await self.close()
                return Part(ids=tuple(ids), stop_reason=stop_reason, usage=self._usage(cached))
            if ids:
                return Part(ids=tuple(ids))
        raise RemoteError(
            f"{self._server} ended its stream after {len(self._received)} tokens without saying why",
            transient=True,
        )

    def _open(self) -> AsyncGenerator[Mapping[str, Any], None]:
        known = [] if self._matcher is not None else self._received
        self._position = len(known)
        body = {
            **self._options,
            **self._wire.asked([*self._prompt_ids, *known], self._params.stop_ids),
            "max_tokens": self._most - len(known),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return self._server.stream(
            COMPLETIONS, body, prompt_tokens=len(self._prompt_ids), context_length=self._context_length
        )

    def _take(self, ids: Sequence[int]) -> list[int]:
        """Return which of the ids are new, up to the first that ends the output."""
        new = []
        for token_id in ids:
            if self._position < len(self._received):
                if token_id != self._received[self._position]:
                    raise RemoteError(
                        f"{self._server} was asked again and gave another output after {self._position} tokens; "
                        "run the turn again"
                    )
            else:
                self._check(token_id)
                self._received.append(token_id)
                new.append(token_id)
            self._position += 1
            if token_id in self._params.stop_ids:
                break
        if new and self._first is None:
            self._first = perf_counter()
        return new

    def _check(self, token_id: int) -> None:
        """Take a token along the grammar.

        Raises:
            GrammarError: if it is not allowed here.
        """
        if self._matcher is None:
            return
        ends = token_id in self._params.stop_ids
        if ends and (self._matcher.accepting or self._matcher.finished):
            return
        if ends or self._matcher.valid([token_id]) != 1:
            raise GrammarError(
                f"{self._server} does not hold to the grammar: token {token_id} is not allowed after "
                f"{len(self._received)} tokens"
            )
        self._matcher.advance(token_id)

    def _end(self, choice: Mapping[str, Any], ids: list[int]) -> StopReason:
        """Return why the server ended the output; what ended it is appended where the server kept it to itself."""
        if choice["finish_reason"] == "length":
            return self._full()
        if choice["finish_reason"] != "stop":
            raise RemoteError(
                f"{self._server} gave up its answer after {len(self._received)} tokens", transient=True
            )
        if self._params.stop_ids:
            ids += self._take([self._wire.stop_id(choice.get("stop_reason"), self._params.stop_ids)])
        return StopReason.STOP_TOKEN

    def _full(self) -> StopReason:
        enough = len(self._received) >= self._params.max_tokens
        return StopReason.MAX_TOKENS if enough else StopReason.CONTEXT_FULL

    async def _told_cached(self, events: AsyncGenerator[Mapping[str, Any], None]) -> int | None:
        """Return how much the server had cached: it says so after everything else, or not at all."""
        try:
            async for event in events:
                if event.get("usage") is not None:
                    return cached_tokens(event)
        except InferenceError:
            return None  # the output is whole all the same
        return None

    def _usage(self, cached: int | None) -> Usage:
        cached = min(cached or 0, len(self._prompt_ids))
        now = perf_counter()
        first = now if self._first is None else self._first
        return Usage(
            prompt_tokens=len(self._prompt_ids),
            cached_tokens=cached,
            prefilled_tokens=len(self._prompt_ids) - cached,
            output_tokens=len(self._received),
            prefill_seconds=first - self._begun,
            decode_seconds=now - first,
        )
