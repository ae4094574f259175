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
from agentkit.inference.remote_server import ModelServer
from agentkit.inference.remote_wire import Wire

COMPLETIONS = "/v1/completions"


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
        self._room = context_length - len(prompt_ids)
        self._context_length = context_length
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
        events = self._events = self._events or self._open()
        async for event in events:
            choices = event.get("choices") or [{}]
            ending = choices[0].get("finish_reason")
            ids = self._take(self._wire.ids_of(choices[0]))
            if ids and ids[-1] in self._params.stop_ids:
                return Part(
                    ids=tuple(ids), stop_reason=StopReason.STOP_TOKEN, usage=await self._usage(events)
                )
            if ending is not None:
                stop_reason, last = self._ended(ending, choices[0].get("stop_reason"))
                ids += self._take(last)
                return Part(ids=tuple(ids), stop_reason=stop_reason, usage=await self._usage(events))
            if ids:
                return Part(ids=tuple(ids))
        raise RemoteError(
            f"{self._server} ended its stream after {len(self._received)} tokens without saying why",
            transient=True,
        )

    def _open(self) -> AsyncGenerator[Mapping[str, Any], None]:
        known = [] if self._matcher is not None else self._received
        self._position = len(known)
        most = min(self._params.max_tokens, self._room) - len(known)
        body = {
            **self._options,
            **self._wire.asked([*self._prompt_ids, *known], self._params.stop_ids),
            "max_tokens": most,
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
        if self._matcher is None:
            return
        if token_id not in self._params.stop_ids:
            allowed = self._matcher.valid([token_id]) == 1
        else:
            allowed = self._matcher.accepting or self._matcher.finished
        if not allowed:
            raise GrammarError(
                f"{self._server} does not hold to the grammar: token {token_id} is not allowed after "
                f"{len(self._received)} tokens"
            )
        if token_id not in self._params.stop_ids:
            self._matcher.advance(token_id)

    def _ended(self, ending: Any, stopped_by: Any) -> tuple[StopReason, list[int]]:
        """Return why the output ended, and the id that ended it where the server kept that to itself."""
        if ending == "length":
            enough = len(self._received) >= self._params.max_tokens
            return StopReason.MAX_TOKENS if enough else StopReason.CONTEXT_FULL, []
        if ending != "stop":
            raise RemoteError(
                f"{self._server} gave up its answer after {len(self._received)} tokens", transient=True
            )
        if not self._params.stop_ids:
            return StopReason.STOP_TOKEN, []
        return StopReason.STOP_TOKEN, [self._wire.stop_id(stopped_by, self._params.stop_ids)]

    async def _usage(self, events: AsyncGenerator[Mapping[str, Any], None]) -> Usage:
        """Return what the call cost, as far as the server says; that may come after everything else, or not at all."""
        cached = 0
        ended = perf_counter()
        try:
            async for event in events:
                told = event.get("usage")
                if told is not None:
                    cached = cached_tokens(told)
                    break
        except InferenceError:
            pass  # the output is whole all the same
        finally:
            await self.close()
        cached = min(cached, len(self._prompt_ids))
        first = ended if self._first is None else self._first
        return Usage(
            prompt_tokens=len(self._prompt_ids),
            cached_tokens=cached,
            prefilled_tokens=len(self._prompt_ids) - cached,
            output_tokens=len(self._received),
            prefill_seconds=first - self._begun,
            decode_seconds=ended - first,
        )


def cached_tokens(usage: Any) -> int:
    """Return how many tokens of the prompt a server says that it had cached; 0 where it does not say."""
    try:
        return int(usage["prompt_tokens_details"]["cached_tokens"])
    except (KeyError, TypeError, ValueError):
        return 0
