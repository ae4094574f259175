"""RemoteEngine: token ids in, token ids out, from a server with an OpenAI-compatible API. Loads no model.

Such as vLLM or SGLang. What the server cannot do is found out at the start and named.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import anyio
import anyio.to_thread

from agentkit.errors import ConfigurationError, GrammarError, InferenceError
from agentkit.inference.base import GeneratedToken, Grammar, Priority, SamplingParams, Score, Usage
from agentkit.inference.bounds import Bounds
from agentkit.inference.catalog import resolve_tokenizer
from agentkit.inference.grammar import GrammarMatcher
from agentkit.inference.remote_capabilities import (
    MOST_LOGPROBS,
    Capabilities,
    find_capabilities,
    logprobs_of,
)
from agentkit.inference.remote_faults import retrying
from agentkit.inference.remote_generation import COMPLETIONS, RemoteGeneration, cached_tokens
from agentkit.inference.remote_grammar import structured_outputs
from agentkit.inference.remote_server import ModelServer, RemoteTimeouts
from agentkit.inference.remote_wire import IdWire, TextWire, Wire
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer

API_KEY_VARIABLE: Final = "AGENTKIT_API_KEY"
"""Where the key of a server comes from, unless one is given."""

_MOST_CANDIDATES: Final = 128
"""How many ids vLLM scores in one request."""

logger = logging.getLogger(__name__)


class RemoteEngine:
    """Runs one model on a server; implements `Engine`.

    Args:
        base_url: The server's address, with or without `/v1`.
        model: What the server calls the model.
        tokenizer: The model's: loaded, or a catalogue name, a folder, a .gguf file or a hub id. None is `model`.
        api_key: None takes the environment variable AGENTKIT_API_KEY, and no key where there is none.
        context_length: Where the server does not say, or fewer tokens are wanted.
        timeouts: How long the server may take, and for how long a fault is tried again.

    `start` asks the server what it can do; the first call does so too. Until then there is no tokenizer. May be used
    from several event loops, one after another.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        tokenizer: Tokenizer | str | Path | None = None,
        api_key: str | None = None,
        context_length: int | None = None,
        timeouts: RemoteTimeouts | None = None,
    ) -> None:
        if not model:
            raise ConfigurationError("model must be what the server calls the model, got an empty string")
        if context_length is not None and context_length < 2:
            raise ConfigurationError(f"context_length must be at least 2, got {context_length!r}")
        key = os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key
        self.name = model
        self._timeouts = timeouts or RemoteTimeouts()
        self._server = ModelServer(base_url, key or None, self._timeouts)
        self._wanted_tokenizer = model if tokenizer is None else tokenizer
        self._wanted_context = context_length
        self._known: _Known | None = None
        self._starting: anyio.Lock | None = None

    async def start(self) -> Capabilities:
        """Ask the server what it can do, once; what it cannot is logged as a warning. Later calls return at once.

        Raises:
            ConfigurationError: if the server does not serve the model, or has another tokenizer.
            ModelLoadError: if there is no tokenizer.
            InferenceError: if the server cannot be asked.
        """
        return (await self._started()).capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do."""
        return self._ready.capabilities

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""
        return self._ready.tokenizer

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""
        return self._ready.bounds.context_length

    @property
    def fingerprint(self) -> str:
        """A digest of the model's name and its tokenizer: the same for every server of that model."""
        return hashlib.sha256(f"{self.name} {self.tokenizer.fingerprint}".encode()).hexdigest()

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
        """Generate after the prompt, as `Engine.generate` promises; begins when the first token is asked for.

        A fault that may pass is tried again from the same ids. `public_prefix` is checked and has no effect: with a
        salt of its own, a scope shares nothing.
        """
        known = await self._started()
        known.bounds.check_prompt(prompt_ids, public_prefix=public_prefix)
        known.bounds.check_ids("stop", sorted(params.stop_ids))
        options = {**self._options(known, priority, scope), **_drawing(params)}
        matcher = None
        if grammar is not None:
            if not params.stop_ids:
                raise GrammarError("a generation under a grammar needs stop ids to end with, got none")
            # In a thread: the first grammar of a tokenizer takes half a second.
            matcher = await anyio.to_thread.run_sync(GrammarMatcher, grammar, known.tokenizer)
            if known.capabilities.grammar:
                options["structured_outputs"] = structured_outputs(grammar, params.stop_ids)
        generation = RemoteGeneration(
            self._server,
            known.wire,
            prompt_ids=prompt_ids,
            params=params,
            options=options,
            context_length=known.bounds.context_length,
            matcher=matcher if known.capabilities.grammar else None,
        )
        held: int | None = None  # the last token of all says why it is, and that may come after it
        try:
            while True:
                part = await retrying(generation.next_part, seconds=self._timeouts.retrying)
                for token_id in part.ids:
                    if held is not None:
                        yield GeneratedToken(id=held)
                    held = token_id
                if part.stop_reason is not None and held is not None:
                    yield GeneratedToken(id=held, stop_reason=part.stop_reason, usage=part.usage)
                    return
                if part.stop_reason is not None:
                    raise InferenceError(f"{self._server} ended its output before the first token")
        finally:
            with anyio.CancelScope(shield=True):
                await generation.close()

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Return the log-probability of each candidate as the next token, as `Engine.score` promises.

        Raises:
            InferenceError: as `Engine.score`, or if the server does not give that of a candidate.
        """
        known = await self._started()
        known.bounds.check_prompt(prompt_ids, public_prefix=public_prefix)
        if len(candidate_ids) == 0:
            raise InferenceError("a score needs at least one candidate id, got none")
        known.bounds.check_ids("candidate", candidate_ids)
        if known.capabilities.scoring == "none":
            raise InferenceError(
                f"{self._server} gives no log-probabilities by token id; use another server to score"
            )
        found: dict[int, float] = {}
        usage = Usage()
        wanted = list(dict.fromkeys(candidate_ids))
        for start in range(0, len(wanted), _MOST_CANDIDATES):
            some = wanted[start : start + _MOST_CANDIDATES]
            answer, cost = await self._scored(
                known, list(prompt_ids), some, self._options(known, priority, scope)
            )
            found |= answer
            usage += cost
        missing = [token_id for token_id in wanted if token_id not in found]
        if missing:
            raise InferenceError(
                f"{self._server} gave no log-probability for {len(missing)} of {len(wanted)} candidates: "
                f"it gives those of its {MOST_LOGPROBS} most likely tokens"
            )
        return Score(logprobs=tuple(found[token_id] for token_id in candidate_ids), usage=usage)

    async def close(self) -> None:
        """End the calls in progress, as `Engine.close` promises; the server goes on."""
        await self._server.close()

    @property
    def _ready(self) -> _Known:
        if self._known is None:
            raise InferenceError(
                f"{self._server} has not been asked yet what it can do; await engine.start() first"
            )
        return self._known

    async def _started(self) -> _Known:
        if self._known is None:
            self._starting = self._starting or anyio.Lock()
            async with self._starting:
                if self._known is None:
                    self._known = await self._find_out()
            self._starting = None
        return self._known

    async def _find_out(self) -> _Known:
        wanted = self._wanted_tokenizer
        if isinstance(wanted, Tokenizer):
            tokenizer = wanted
        else:
            tokenizer = await anyio.to_thread.run_sync(lambda: load_tokenizer(resolve_tokenizer(str(wanted))))

        async def ask() -> Capabilities:
            return await find_capabilities(self._server, self.name, tokenizer)

        capabilities = await retrying(ask, seconds=self._timeouts.retrying)
        for missing in capabilities.missing:
            logger.warning("%s lacks %s", self._server, missing)
        context_length = self._context_length(capabilities)
        return _Known(
            capabilities=capabilities,
            tokenizer=tokenizer,
            wire=IdWire() if capabilities.token_ids else TextWire(tokenizer),
            bounds=Bounds(
                vocab_size=tokenizer.vocab_size,
                num_layers=0,
                model_context=context_length,
                pool_tokens=context_length,
            ),
        )

    def _context_length(self, capabilities: Capabilities) -> int:
        """Return the wanted context, or the server's.

        Raises:
            ConfigurationError: if the wanted one is longer, or there is none.
        """
        wanted, served = self._wanted_context, capabilities.context_length
        if wanted is not None and served is not None and wanted > served:
            raise ConfigurationError(f"context_length is {wanted}, {self._server} serves {served}")
        if wanted is None and served is None:
            raise ConfigurationError(
                f"{self._server} does not say how long its context is; pass context_length="
            )
        return wanted or served or 0

    def _options(self, known: _Known, priority: Priority, scope: str) -> dict[str, Any]:
        """Return what every request says beside its prompt, in so far as the server knows it."""
        options: dict[str, Any] = {"model": self.name}
        if known.capabilities.priority:
            options["priority"] = int(priority)
        if known.capabilities.scopes and scope:
            # A digest: who a tenant is, is not the server's business.
            options["cache_salt"] = hashlib.sha256(f"agentkit scope {scope}".encode()).hexdigest()
        return options

    async def _scored(
        self, known: _Known, prompt_ids: list[int], wanted: list[int], options: dict[str, Any]
    ) -> tuple[dict[int, float], Usage]:
        body = {
            **options,
            "prompt": prompt_ids,
            "max_tokens": 1,
            "temperature": 0.0,
            "return_tokens_as_token_ids": True,
        }
        if known.capabilities.scoring == "candidates":
            body |= {"logprobs": 0, "logprob_token_ids": wanted}
        else:
            body |= {"logprobs": MOST_LOGPROBS}

        async def ask() -> Any:
            return await self._server.post(
                COMPLETIONS,
                body,
                prompt_tokens=len(prompt_ids),
                context_length=known.bounds.context_length,
            )

        begun = perf_counter()
        answer = await retrying(ask, seconds=self._timeouts.retrying)
        cached = min(cached_tokens(answer.get("usage")), len(prompt_ids))
        usage = Usage(
            prompt_tokens=len(prompt_ids),
            cached_tokens=cached,
            prefilled_tokens=len(prompt_ids) - cached,
            prefill_seconds=perf_counter() - begun,
        )
        return logprobs_of(answer), usage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was found out about a server."""

    capabilities: Capabilities
    tokenizer: Tokenizer
    wire: Wire
    bounds: Bounds


def _drawing(params: SamplingParams) -> dict[str, Any]:
    """Return how tokens are drawn. A seed of our own lets a broken stream be repeated."""
    return {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": -1,
        "seed": secrets.randbits(31) if params.seed is None else params.seed,
    }
