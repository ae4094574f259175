"""RemotePool: several servers of one model as one engine. Knows no text; keeps nothing that others must know.

A session goes to the replica that holds its prefix; when that one is full, drained or down, to the next of its order.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio

from agentkit.errors import ConfigurationError, InferenceError, RemoteError
from agentkit.inference.base import GeneratedToken, Grammar, Priority, SamplingParams, Score
from agentkit.inference.patience import Patience
from agentkit.inference.remote import RemoteEngine
from agentkit.inference.remote_server import RemoteTimeouts
from agentkit.inference.replay import unseen
from agentkit.inference.replica import Replica, ReplicaStatus
from agentkit.inference.replica_health import health_of, is_healthy
from agentkit.inference.replica_routing import ranked, session_key
from agentkit.inference.tokenizer import Tokenizer

SILENCE: Final = 10.0
"""Seconds after which an idle replica is asked for its health before it gets a call."""


class RemotePool:
    """Runs one model on several servers; implements `Engine`.

    Args:
        base_urls: The servers' addresses, in any order: two pools that have the same ones route alike.
        model: What the servers call the model.
        tokenizer, api_key, context_length: As for `RemoteEngine`, the same for every server.
        timeouts: As for `RemoteEngine`. `retrying` is how long a call waits for a replica, without a new token.
        max_in_flight: How many calls of this process a replica has before its sessions go to the next one.
        clock: What tells the time, in seconds.

    A generation whose replica dies goes on at another one, from the same ids; what was given is not given again.
    Nothing is shared with other pools, and no replica need be up but one.
    """

    def __init__(
        self,
        base_urls: Sequence[str],
        model: str,
        *,
        tokenizer: Tokenizer | str | Path | None = None,
        api_key: str | None = None,
        context_length: int | None = None,
        timeouts: RemoteTimeouts | None = None,
        max_in_flight: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        urls = [_address(url) for url in base_urls]
        if not urls or len(set(urls)) < len(urls):
            raise ConfigurationError(
                f"a pool needs at least one address, and each once; got {len(urls)}, {len(set(urls))} of them different"
            )
        if max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight must be at least 1, got {max_in_flight!r}")
        self.name = model
        self._timeouts = timeouts or RemoteTimeouts()
        self._replicas = {
            url: Replica(
                url=url,
                clock=clock,
                health=health_of(url),
                engine=RemoteEngine(
                    url,
                    model,
                    tokenizer=tokenizer,
                    api_key=api_key,
                    context_length=context_length,
                    timeouts=replace(self._timeouts, retrying=0),  # another replica is the better second try
                ),
            )
            for url in urls
        }
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._asked: list[RemoteEngine] = []
        self._closed = False

    async def start(self) -> None:
        """Ask every server what it can do; later calls return at once. One that is down is asked when it is up again.

        Raises:
            ConfigurationError, ModelLoadError: as `RemoteEngine.start`.
            InferenceError: if no server answers in time.
        """
        patience = self._patience()
        while not self._asked:
            for replica in self._preferred(b""):
                if await self._is_well(replica):
                    await self._ask(replica, patience)
            if not self._asked:
                await self._rest(patience)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""
        return self._started[0].tokenizer

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together: on every replica that was up at the start."""
        return min(engine.context_length for engine in self._started)

    @property
    def fingerprint(self) -> str:
        """As of a `RemoteEngine` for one of the servers: a session may go from the one to the other."""
        return self._started[0].fingerprint

    @property
    def replicas(self) -> tuple[ReplicaStatus, ...]:
        """How each replica is now, as this process knows it."""
        return tuple(replica.status() for replica in self._replicas.values())

    def drain(self, url: str) -> None:
        """Send a replica no further calls; those in progress end as they would.

        Raises:
            ConfigurationError: if the pool has no such address.
        """
        self._replica(url).draining = True

    def restore(self, url: str) -> None:
        """Send a drained replica calls again: its sessions return to it.

        Raises:
            ConfigurationError: if the pool has no such address.
        """
        self._replica(url).draining = False

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
    ) -> AsyncGenerator[GeneratedToken, None]:
        """Generate as `Engine.generate` promises, on one replica after the other until one has ended the output.

        The next one goes on after what was given. A grammar cannot be entered in its middle, so under one the output
        is drawn again from the beginning, and has to begin as before.

        Raises:
            InferenceError: also if no replica could be had, or if the next one drew other tokens under a grammar.
        """
        await self.start()
        key = self._key(prompt_ids, scope, public_prefix)
        params = _repeatable(params)
        given: list[int] = []
        patience = self._patience()
        while True:
            replica = await self._choose(key, patience)
            known = [] if grammar is not None else list(given)
            tokens = replica.engine.generate(
                [*prompt_ids, *known],
                replace(params, max_tokens=params.max_tokens - len(known)),
                grammar=grammar,
                priority=priority,
                scope=scope,
                public_prefix=public_prefix,
            )
            last: GeneratedToken | None = None
            try:
                with replica.calling():
                    async with aclosing(unseen(tokens, given[len(known) :])) as fresh:
                        async for token in fresh:
                            replica.answered()
                            if token.stop_reason is not None:
                                last = token
                                break
                            given.append(token.id)
                            patience.renew()
                            yield token
            except RemoteError as error:
                patience.meet(error)
            if last is not None:  # the replica is free by now, whatever the caller does with the last token
                yield _whole(last, len(prompt_ids), len(given) + 1)
                return

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Score as `Engine.score` promises, on one replica after the other until one has answered.

        Raises:
            InferenceError: also if no replica could be had.
        """
        await self.start()
        key = self._key(prompt_ids, scope, public_prefix)
        patience = self._patience()
        while True:
            replica = await self._choose(key, patience)
            try:
                with replica.calling():
                    return await replica.engine.score(
                        prompt_ids, candidate_ids, priority=priority, scope=scope, public_prefix=public_prefix
                    )
            except RemoteError as error:
                patience.meet(error)

    async def close(self) -> None:
        """Close every replica's engine, as `Engine.close` promises; the servers run on."""
        self._closed = True
        async with AsyncExitStack() as closing:
            for replica in self._replicas.values():
                closing.push_async_callback(replica.health.close)
                closing.push_async_callback(replica.engine.close)

    @property
    def _started(self) -> list[RemoteEngine]:
        if not self._asked:
            raise InferenceError("no server of the pool has been asked yet; await pool.start() first")
        return self._asked

    async def _ask(self, replica: Replica, patience: Patience) -> None:
        """Ask a server what it can do; one that cannot be asked now is asked when it gets its first call."""
        try:
            with replica.calling():
                await replica.engine.start()
        except RemoteError as error:
            patience.meet(error)
        else:
            if replica.engine not in self._asked:
                self._asked.append(replica.engine)

    def _patience(self) -> Patience:
        return Patience(seconds=self._timeouts.retrying, losses=len(self._replicas), clock=self._clock)

    def _key(self, prompt_ids: Sequence[int], scope: str, public_prefix: int) -> bytes:
        special_ids = self.tokenizer.special_ids.values()
        return session_key(prompt_ids, scope=scope, public_prefix=public_prefix, special_ids=special_ids)

    async def _choose(self, key: bytes, patience: Patience) -> Replica:
        """Return the best replica for a key that is well now, or wait for one.

        Raises:
            InferenceError: if none is in time, all are drained, or the pool is closed.
        """
        while True:
            if self._closed:
                raise InferenceError("the engine is closed")
            for replica in self._preferred(key):
                if await self._is_well(replica):
                    return replica
            await self._rest(patience)

    def _preferred(self, key: bytes) -> list[Replica]:
        """Return the replicas that may be called, best first: those of the key's order, then the full ones by load."""
        order = [self._replicas[url] for url in ranked(key, self._replicas)]
        usable = [replica for replica in order if not replica.draining and not replica.resting]
        return sorted(usable, key=lambda replica: max(replica.in_flight, self._max_in_flight - 1))

    async def _is_well(self, replica: Replica) -> bool:
        """Return whether a replica answers; one that was heard of lately is not asked."""
        if not replica.faults and replica.silent_for() < SILENCE:
            return True
        began = self._clock()
        if await is_healthy(replica.health):
            replica.heard()
            return True
        replica.failed(began=began)
        return False

    async def _rest(self, patience: Patience) -> None:
        """Wait until the first replica may be called again, a little longer than it asked and not all at once."""
        in_service = [replica for replica in self._replicas.values() if not replica.draining]
        if not in_service:
            raise InferenceError(
                f"all {len(self._replicas)} replicas of the pool are drained; restore one of them"
            )
        if patience.left <= 0:
            states = ", ".join(f"{replica.url} ({replica.state()})" for replica in in_service)
            raise InferenceError(
                f"no replica took the call within {patience.seconds:g} seconds: {states}; "
                "start one, or raise timeouts.retrying"
            )
        soonest = min(replica.resting for replica in in_service)
        pause = soonest + random.uniform(0.01, 0.1 + soonest / 4)  # noqa: S311  # no secret
        await anyio.sleep(min(patience.left, pause))

    def _replica(self, url: str) -> Replica:
        replica = self._replicas.get(_address(url))
        if replica is None:
            raise ConfigurationError(
                f"the pool has no replica at {url!r}; it has {', '.join(self._replicas)}"
            )
        return replica


def _address(url: str) -> str:
    """Return an address without `/v1`, which some write and some do not."""
    return url.rstrip("/").removesuffix("/v1")


def _repeatable(params: SamplingParams) -> SamplingParams:
    """Return parameters with which another replica draws the same tokens."""
    if params.seed is not None or params.temperature == 0:
        return params
    return replace(params, seed=secrets.randbelow(2**31))


def _whole(last: GeneratedToken, prompt_tokens: int, output_tokens: int) -> GeneratedToken:
    """Return the last token with the usage of the call, of which its replica may have seen only the end."""
    if last.usage is None:
        return last
    cached = min(last.usage.cached_tokens, prompt_tokens)
    usage = replace(
        last.usage,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        prefilled_tokens=prompt_tokens - cached,
        output_tokens=output_tokens,
    )
    return replace(last, usage=usage)
