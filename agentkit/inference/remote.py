"""RemoteEngine: token ids in, token ids out, from a server with an OpenAI-compatible API. Loads no model.

Such as vLLM or SGLang. What the server cannot do is found out at the start and named.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agentkit.errors import ConfigurationError, GrammarError, InferenceError
from agentkit.inference.base import GeneratedToken, Grammar, Priority, SamplingParams, Score
from agentkit.inference.grammar import GrammarMatcher
from agentkit.inference.remote_capabilities import Capabilities
from agentkit.inference.remote_faults import retrying
from agentkit.inference.remote_generation import RemoteGeneration
from agentkit.inference.remote_grammar import structured_outputs
from agentkit.inference.remote_model import RemoteModel, find_model
from agentkit.inference.remote_scoring import score_on
from agentkit.inference.remote_server import ModelServer, RemoteTimeouts, key_of
from agentkit.inference.tokenizer import Tokenizer


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
        self.name = model
        self._timeouts = timeouts or RemoteTimeouts()
        self._server = ModelServer(base_url, key_of(api_key), self._timeouts)
        self._wanted_tokenizer = model if tokenizer is None else tokenizer
        self._wanted_context = context_length
        self._model: RemoteModel | None = None
        self._starting: anyio.Lock | None = None

    async def start(self) -> Capabilities:
        """Ask the server what it can do, once; what it cannot is logged as a warning. Later calls return at once.

        Raises:
            ConfigurationError: if the server does not serve the model, or tokenizes otherwise.
            ModelLoadError: if there is no tokenizer.
            InferenceError: if the server cannot be asked.
        """
        return (await self._started()).capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do."""
        return self._found.capabilities

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""
        return self._found.tokenizer

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""
        return self._found.bounds.context_length

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

        After a fault that may pass, the same ids are asked for again: for `timeouts.retrying` seconds, within the
        caller's deadline. `public_prefix` is checked and has no effect: under its own salt a scope shares nothing.
        """
        model = await self._started()
        model.bounds.check_prompt(prompt_ids, public_prefix=public_prefix)
        model.bounds.check_ids("stop", sorted(params.stop_ids))
        options = {**model.options(priority, scope), **_drawing(params)}
        matcher = None if grammar is None else await _matcher(grammar, model.tokenizer, params.stop_ids)
        if grammar is not None and model.capabilities.grammar:
            options["structured_outputs"] = structured_outputs(grammar, params.stop_ids)
        generation = RemoteGeneration(
            self._server,
            model.wire,
            prompt_ids=prompt_ids,
            params=params,
            options=options,
            context_length=model.bounds.context_length,
            matcher=matcher if model.capabilities.grammar else None,
        )
        held: int | None = None  # the last token of all says why it is, and a server may say so after it
        try:
            while True:
                part = await retrying(generation.next_part, seconds=self._timeouts.retrying)
                for token_id in part.ids:
                    if held is not None:
                        yield GeneratedToken(id=held)
                    held = token_id
                if part.stop_reason is not None:
                    break
            if held is None:
                raise InferenceError(f"{self._server} ended its output before the first token")
            yield GeneratedToken(id=held, stop_reason=part.stop_reason, usage=part.usage)
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
        model = await self._started()
        model.bounds.check_prompt(prompt_ids, public_prefix=public_prefix)
        if len(candidate_ids) == 0:
            raise InferenceError("a score needs at least one candidate id, got none")
        model.bounds.check_ids("candidate", candidate_ids)
        return await score_on(
            self._server,
            model,
            prompt_ids,
            candidate_ids,
            options=model.options(priority, scope),
            retry_seconds=self._timeouts.retrying,
        )

    async def close(self) -> None:
        """End the calls in progress, as `Engine.close` promises; the server goes on."""
        await self._server.close()

    @property
    def _found(self) -> RemoteModel:
        if self._model is None:
            raise InferenceError(
                f"{self._server} has not been asked yet what it can do; await engine.start() first"
            )
        return self._model

    async def _started(self) -> RemoteModel:
        if self._model is None:
            self._starting = self._starting or anyio.Lock()
            try:
                async with self._starting:
                    if self._model is None:
                        self._model = await find_model(
                            self._server,
                            self.name,
                            tokenizer=self._wanted_tokenizer,
                            context_length=self._wanted_context,
                            retry_seconds=self._timeouts.retrying,
                        )
            finally:
                self._starting = None  # a lock belongs to one event loop
        return self._model


async def _matcher(grammar: Grammar, tokenizer: Tokenizer, stop_ids: frozenset[int]) -> GrammarMatcher:
    """Compile a grammar, in a thread: the first one of a tokenizer takes half a second.

    Raises:
        GrammarError: if it does not compile, or there is no stop id to end with.
    """
    if not stop_ids:
        raise GrammarError("a generation under a grammar needs stop ids to end with, got none")
    return await anyio.to_thread.run_sync(GrammarMatcher, grammar, tokenizer)


def _drawing(params: SamplingParams) -> dict[str, Any]:
    """Return how tokens are drawn. A seed of our own lets an output be drawn again after a fault."""
    return {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": secrets.randbits(31) if params.seed is None else params.seed,
    }
