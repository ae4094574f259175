"""LocalEngine: token ids in, token ids out, on this machine. Knows no text, no roles, no tools.

The async face of one worker thread, which owns the device: the event loop only checks arguments and waits.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import AsyncGenerator, Sequence

import anyio.to_thread
import torch

from agentkit.errors import ConfigurationError, ContextLengthError, InferenceError, ModelLoadError
from agentkit.inference.base import GeneratedToken, Grammar, Priority, SamplingParams, Score
from agentkit.inference.catalog import ResolvedModel, resolve
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import EngineConfig
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import LlamaModel
from agentkit.inference.request import GenerationRequest, ScoreRequest
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer
from agentkit.inference.worker import EngineStats, Worker, is_out_of_memory


class LocalEngine:
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
        self._model: LlamaModel | None = model
        self._vocab_size = model.config.vocab_size
        self._tokenizer = tokenizer
        self._context_length = _context_length(self.config, model)
        self._worker = Worker(self.config) if worker is None else worker
        weakref.finalize(self, self._worker.close_at_exit)

    @classmethod
    async def load(cls, reference: str, config: EngineConfig | None = None) -> LocalEngine:
        """Find a checkpoint and load it: a catalogue name, a folder, a .gguf file or a hub id.

        Raises:
            ConfigurationError: if a setting does not fit this machine or the model.
            ModelLoadError: if the reference names nothing, or its checkpoint cannot be loaded.
        """
        config = EngineConfig() if config is None else config
        worker = Worker(config)
        try:
            return await worker.call(lambda: _loaded(cls, reference, config, worker))
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
        return self._context_length

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
    ) -> AsyncGenerator[GeneratedToken, None]:
        """Generate after the prompt, as `Engine.generate` promises; begins when the first token is asked for."""
        self._check_prompt(prompt_ids)
        self._check_ids("stop", sorted(params.stop_ids))
        mailbox: Mailbox[GeneratedToken] = Mailbox()
        request = GenerationRequest(
            self._open_model(),
            prompt_ids,
            params,
            grammar=grammar,
            tokenizer=self._tokenizer,
            context_length=self._context_length,
            priority=priority,
            scope=scope,
            mailbox=mailbox,
        )
        self._worker.submit(request)
        try:
            while True:
                token = await mailbox.receive()
                yield token
                if token.stop_reason is not None:
                    return
        finally:
            self._worker.cancel(request)

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
    ) -> Score:
        """Return the log-probability of each candidate as the next token, as `Engine.score` promises."""
        self._check_prompt(prompt_ids)
        if len(candidate_ids) == 0:
            raise InferenceError("a score needs at least one candidate id, got none")
        self._check_ids("candidate", candidate_ids)
        mailbox: Mailbox[Score] = Mailbox()
        request = ScoreRequest(
            self._open_model(), prompt_ids, candidate_ids, priority=priority, scope=scope, mailbox=mailbox
        )
        self._worker.submit(request)
        try:
            return await mailbox.receive()
        finally:
            self._worker.cancel(request)

    async def forget(self, ids: Sequence[int], *, keep: int, scope: str = "") -> None:
        """Drop what is cached of these ids past the first `keep`, in whatever sequence holds it.

        Calls that are in progress keep theirs until they end.

        Raises:
            InferenceError: if `keep` is negative or the engine is closed.
        """
        if keep < 0:
            raise InferenceError(f"keep must be at least 0, got {keep}")
        await self._worker.forget(list(ids), keep=keep, scope=scope)

    async def stats(self) -> EngineStats:
        """Return what the engine holds now.

        Raises:
            InferenceError: if the engine is closed.
        """
        return await self._worker.stats()

    async def close(self) -> None:
        """Free the model and end its thread, as `Engine.close` promises."""
        self._worker.close()
        self._model = None
        await anyio.to_thread.run_sync(self._worker.join)

    def _open_model(self) -> LlamaModel:
        if self._model is None:
            raise InferenceError("the engine is closed")
        return self._model

    def _check_prompt(self, prompt_ids: Sequence[int]) -> None:
        if len(prompt_ids) == 0:
            raise InferenceError("the prompt is empty; it needs at least one token")
        self._check_ids("prompt", prompt_ids)
        if len(prompt_ids) >= self._context_length:
            raise ContextLengthError(prompt_tokens=len(prompt_ids), context_length=self._context_length)

    def _check_ids(self, kind: str, ids: Sequence[int]) -> None:
        for token_id in ids:
            if not 0 <= token_id < self._vocab_size:
                raise InferenceError(
                    f"{kind} id {token_id} is out of range; the vocabulary has {self._vocab_size} tokens"
                )


def _loaded(cls: type[LocalEngine], reference: str, config: EngineConfig, worker: Worker) -> LocalEngine:
    """Load everything in the thread that will run it."""
    device = _device(config)
    resolved = resolve(reference)
    tokenizer = load_tokenizer(resolved.path)
    model, fingerprint = _load_model(resolved, device)
    digest = hashlib.sha256(f"{fingerprint} {tokenizer.fingerprint}".encode()).hexdigest()
    return cls(model, tokenizer, config, name=resolved.name, fingerprint=digest, worker=worker)


def _load_model(resolved: ResolvedModel, device: torch.device) -> tuple[LlamaModel, str]:
    """Return the model on the device and the fingerprint of its checkpoint."""
    try:
        checkpoint = load_checkpoint(resolved.path)
        tensors = {name: tensor.to(device) for name, tensor in checkpoint.tensors.items()}
        return LlamaModel(checkpoint.config, tensors), checkpoint.fingerprint
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelLoadError(f"{resolved.name} does not fit into the memory of {device}") from error


def _device(config: EngineConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=config.device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"device {config.device!r} cannot be used here; use 'auto' or 'cpu'"
        ) from error


def _context_length(config: EngineConfig, model: LlamaModel) -> int:
    longest = model.config.context_length
    if config.context_length is None:
        return longest
    if config.context_length > longest:
        raise ConfigurationError(f"context_length is {config.context_length}, the model's is {longest}")
    return config.context_length
