"""LocalEngine: token ids in, token ids out, on this machine. Knows no text, no roles, no tools.

The async face of one worker thread, which owns the device: the event loop only checks arguments and waits.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from agentkit.errors import InferenceError, KVFileError
from agentkit.inference.base import (
    GeneratedToken,
    Grammar,
    Observe,
    Priority,
    SamplingParams,
    Score,
    Usage,
)
from agentkit.inference.begun import BegunGeneration, submitted
from agentkit.inference.bounds import Bounds
from agentkit.inference.config import EngineConfig
from agentkit.inference.generation import GenerationRequest
from agentkit.inference.kv_cache import KVCache, Pin
from agentkit.inference.loading import (
    cache_identity,
    context_length,
    load_model,
    new_host_tier,
    new_pool,
    new_runner,
)
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import LlamaModel
from agentkit.inference.observed import ObservedStates
from agentkit.inference.request import PrefillRequest, Request, ScoreRequest
from agentkit.inference.saved_kv import SavedKV, Warmth
from agentkit.inference.scheduler import Scheduler
from agentkit.inference.speculation import Speculation
from agentkit.inference.states import GivesStates
from agentkit.inference.stats import EngineStats
from agentkit.inference.tokenizer import Tokenizer
from agentkit.inference.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class _Core:
    """What holds the model and its memory: an engine lets go of it when it is closed."""

    scheduler: Scheduler
    cache: KVCache
    saved: SavedKV


class LocalEngine(GivesStates):
    """Runs one Llama model in this process; implements `Engine`.

    What a call computes stays cached for later calls of its `scope` whose ids begin alike. May be used from
    several event loops, one after another. An engine that nobody closes ends with the interpreter.
    """

    def __init__(
        self,
        model: LlamaModel,
        tokenizer: Tokenizer,
        config: EngineConfig | None = None,
        *,
        name: str = "local",
        fingerprint: str | None = None,
        worker: Worker | None = None,
    ) -> None:
        """Serve a model that is loaded already; `worker` is the thread to use where one loaded it.

        Raises:
            ConfigurationError: if the configured context is longer than the model's.
        """
        self.config = EngineConfig() if config is None else config
        self.name = name
        self.fingerprint = tokenizer.fingerprint if fingerprint is None else fingerprint
        self.num_layers = model.config.num_layers
        self._tokenizer = tokenizer
        pool = new_pool(self.config, model)
        identity = cache_identity(fingerprint, model)
        cache = KVCache(pool, identity, host=new_host_tier(self.config, pool, identity))
        self._bounds = Bounds(
            vocab_size=model.config.vocab_size,
            num_layers=model.config.num_layers,
            model_context=context_length(self.config, model),
            pool_tokens=pool.capacity,
        )
        scheduler = Scheduler(
            model,
            cache,
            prefill_chunk=self.config.prefill_chunk,
            runner=new_runner(model, pool),
            speculation=Speculation() if self.config.speculation == "prompt_lookup" else None,
        )
        self._worker = Worker(threads=self.config.threads) if worker is None else worker
        self._worker.serve(scheduler)
        self._worker.post(scheduler.warm_up)
        self._core: _Core | None = _Core(scheduler=scheduler, cache=cache, saved=SavedKV(self._worker, cache))
        weakref.finalize(self, self._worker.close_at_exit)

    @classmethod
    async def load(cls, reference: str, config: EngineConfig | None = None) -> LocalEngine:
        """Find a checkpoint and load it: a catalogue name, a folder, a .gguf file or a hub id.

        Raises:
            ConfigurationError: if a setting does not fit this machine or the model.
            ModelLoadError: if the reference names nothing, or its checkpoint cannot be loaded.
        """
        config = EngineConfig() if config is None else config
        worker = Worker(threads=config.threads)
        try:
            loaded = await worker.call(lambda: load_model(reference, config))
            return cls(
                loaded.model,
                loaded.tokenizer,
                config,
                name=loaded.name,
                fingerprint=loaded.fingerprint,
                worker=worker,
            )
        except BaseException:
            worker.close()
            raise

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""
        return self._bounds.context_length

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
        """Generate after the prompt, as `Engine.generate` promises; begins when the first token is asked for."""
        begun = self.begin(
            prompt_ids, params, grammar=grammar, priority=priority, scope=scope, public_prefix=public_prefix
        )
        try:
            async for token in begun:
                yield token
        finally:
            begun.cancel()

    def begin(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
        observe: Observe | None = None,
    ) -> BegunGeneration:
        """Begin to generate after the prompt at once, whether or not anybody waits for the tokens.

        With `observe`, what comes of it has `states`: hidden states that the prefill takes along.

        Raises:
            ContextLengthError, InferenceError: as `generate`, or if `observe` is out of range.
        """
        self._bounds.check_prompt(prompt_ids, public_prefix=public_prefix)
        self._bounds.check_ids("stop", sorted(params.stop_ids))
        states = None
        if observe is not None:
            self._bounds.check_states(prompt_ids[: observe.stop], observe.layers, start=observe.start)
            states = ObservedStates(observe, fingerprint=self.fingerprint)
        mailbox: Mailbox[GeneratedToken] = Mailbox()
        request = GenerationRequest(
            prompt_ids,
            params,
            grammar=grammar,
            tokenizer=self._tokenizer,
            context_length=self._bounds.context_length,
            priority=priority,
            scope=scope,
            mailbox=mailbox,
            public_prefix=public_prefix,
            observed=states,
        )
        scheduler = self._open().scheduler
        return BegunGeneration(request, mailbox, worker=self._worker, scheduler=scheduler, states=states)

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Return the log-probability of each candidate as the next token, as `Engine.score` promises."""
        self._bounds.check_prompt(prompt_ids, public_prefix=public_prefix)
        if len(candidate_ids) == 0:
            raise InferenceError("a score needs at least one candidate id, got none")
        self._bounds.check_ids("candidate", candidate_ids)
        mailbox: Mailbox[Score] = Mailbox()
        request = ScoreRequest(
            prompt_ids,
            candidate_ids,
            priority=priority,
            scope=scope,
            mailbox=mailbox,
            public_prefix=public_prefix,
        )
        with self._submitted(request):
            return await mailbox.receive()

    async def forget(self, ids: Sequence[int], *, keep: int, scope: str = "") -> None:
        """Drop what is cached of these ids past the first `keep`, in whatever sequence holds it.

        Calls that are in progress keep theirs until they end; what was declared public stays.

        Raises:
            InferenceError: if `keep` is negative or the engine is closed.
        """
        if keep < 0:
            raise InferenceError(f"keep must be at least 0, got {keep}")
        cache, unwanted = self._open().cache, list(ids)
        await self._worker.call(lambda: cache.forget(unwanted, keep=keep, scope=scope))

    @asynccontextmanager
    async def pinned(self, ids: Sequence[int], *, scope: str = "") -> AsyncGenerator[int, None]:
        """Keep what is cached of these ids while the block runs, however much is used meanwhile.

        Gives the number of tokens that it holds. Only a request that could not go on otherwise, with nobody else
        running, takes what is pinned.

        Raises:
            InferenceError: if the engine is closed.
        """
        cache, wanted = self._open().cache, list(ids)
        pins: list[Pin] = []
        try:
            await self._worker.call(lambda: pins.append(cache.pin(wanted, scope=scope)))
            yield pins[0].tokens
        finally:
            with suppress(InferenceError):  # closed: nothing is cached any more
                self._worker.post(lambda: cache.unpin(*pins))

    async def save_kv(self, ids: Sequence[int], path: str | Path, *, scope: str = "") -> int:
        """Write what is cached of these ids to a file; return how many tokens that is, 0 for none and no file.

        Raises:
            KVFileError: if the file cannot be written; one that was there stays as it was.
            InferenceError: if the engine is closed.
        """
        return await self._open().saved.save(ids, Path(path), scope=scope)

    async def load_kv(self, path: str | Path, ids: Sequence[int], *, scope: str = "") -> int:
        """Cache what a file of `save_kv` holds of these ids; return how many of them are cached now.

        Raises:
            KVFileError: if the file is missing, damaged, or was written for another model, scope or other ids;
                nothing has changed then.
            InferenceError: if the engine is closed.
        """
        return await self._open().saved.load(Path(path), ids, scope=scope)

    def prefers_loading(self) -> bool:
        """Whether loading tokens is likely to be faster than computing them, by what was measured here so far.

        True until both have been measured.

        Raises:
            InferenceError: if the engine is closed.
        """
        core = self._open()
        loading, computing = core.saved.speed.seconds_for(1), core.scheduler.prefill_speed.seconds_for(1)
        return loading is None or computing is None or loading <= computing

    async def warm(self, ids: Sequence[int], path: str | Path, *, scope: str = "") -> Warmth:
        """Have ids cached: from a file where there is a good one and loading is faster, else by computing them.

        Raises:
            ContextLengthError, InferenceError: as `generate`.
        """
        self._bounds.check_prompt(ids)
        cached = loaded = await self._open().saved.cached(ids, scope=scope)
        problem = None
        if cached < len(ids) and self.prefers_loading():
            try:
                loaded = await self.load_kv(path, ids, scope=scope)
            except KVFileError as error:
                problem = error
        if loaded < len(ids):
            mailbox: Mailbox[Usage] = Mailbox()
            request = PrefillRequest(ids, priority=Priority.BACKGROUND, scope=scope, mailbox=mailbox)
            with self._submitted(request):
                await mailbox.receive()
        return Warmth(
            cached_tokens=cached,
            loaded_tokens=loaded - cached,
            computed_tokens=len(ids) - loaded,
            problem=problem,
        )

    async def stats(self) -> EngineStats:
        """Return what the engine holds now.

        Raises:
            InferenceError: if the engine is closed.
        """
        return await self._worker.call(self._open().scheduler.stats)

    async def close(self) -> None:
        """Free the model and end its thread, as `Engine.close` promises."""
        self._worker.close()
        self._core = None
        await anyio.to_thread.run_sync(self._worker.join)

    def _submitted(self, request: Request[Any]) -> AbstractContextManager[None]:
        return submitted(request, self._worker, self._open().scheduler)

    def _open(self) -> _Core:
        if self._core is None:
            raise InferenceError("the engine is closed")
        return self._core
