"""What a model server can do, found out by asking it; what it cannot is named. Nothing is taken from its name.

Every probe asks for a token or two after a sentence of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias

from agentkit.errors import ConfigurationError, RemoteError
from agentkit.inference.base import Grammar
from agentkit.inference.remote_answers import COMPLETIONS, cached_tokens, first_choice, logprobs_of
from agentkit.inference.remote_grammar import structured_outputs
from agentkit.inference.remote_server import ModelServer
from agentkit.inference.tokenizer import Tokenizer
from agentkit.nearest import nearest

Scoring: TypeAlias = Literal["candidates", "most_likely", "none"]
"""Whose log-probabilities a server gives: those of the ids asked about, those of its most likely ids, or none."""

MOST_LOGPROBS: Final = 20
"""How many of the most likely tokens vLLM gives the log-probabilities of, unless it was started with another bound."""

_PROMPT: Final = "The capital of France is"
# Digits, contractions, spaces, scripts and an emoji: what tokenizers split differently.
_SAMPLE: Final = (
    "It's 2024, we'll pay   $12,345.67!\n\n\tnaïve café — Привет 你好 مرحبا 🙂 x_y = f(a)[0]; HTTPServer"
)
_UNLIKELY: Final = "zq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a server can do. `context_length` is None where it does not say."""

    context_length: int | None
    token_ids: bool
    tokenizer_checked: bool
    grammar: bool
    scoring: Scoring
    scopes: bool
    priority: bool
    cached_tokens: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """What the server cannot do, and what that means, a line each."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return tuple(
            _MEANING[name] for name, value in found.items() if value in (False, "most_likely", "none")
        )


_MEANING: Final = {
    "token_ids": "token ids: prompts and outputs travel as text, and text that spells a special token is refused",
    "tokenizer_checked": "/tokenize: whether its tokenizer is ours is not known",
    "grammar": "our grammars: calls and answers are checked when they are whole, not held to their schemas "
    '(vLLM: --structured-outputs-config \'{"backend": "guidance"}\')',
    "scoring": f"log-probabilities of chosen tokens: what is not among its {MOST_LOGPROBS} most likely has no score",
    "scopes": "cache_salt: cached prefixes may be shared between scopes",
    "priority": "priorities: shields wait for their turn as everybody does (vLLM: --scheduling-policy priority)",
    "cached_tokens": "cached tokens: usage counts every prompt as prefilled (vLLM: --enable-prompt-tokens-details)",
}


async def find_capabilities(server: ModelServer, model: str, tokenizer: Tokenizer) -> Capabilities:
    """Ask a server what it can do.

    Raises:
        ConfigurationError: if it does not serve the model, or tokenizes otherwise.
        InferenceError: if it cannot be asked, or completes nothing.
    """
    context_length = await _context_length(server, model)
    prompt_ids = tokenizer.encode(_PROMPT)
    by_ids = _Probes(server, model, tokenizer, prompt_ids)
    token_ids = await by_ids.token_ids(prompt_ids)
    probes = by_ids if token_ids else _Probes(server, model, tokenizer, _PROMPT)
    return Capabilities(
        context_length=context_length,
        # First: a server that does not complete the bare prompt refuses everything else as well.
        cached_tokens=await probes.cached_tokens(),
        token_ids=token_ids,
        tokenizer_checked=await probes.tokenizer_checked(),
        grammar=await probes.grammar(),
        scoring=await probes.scoring(),
        scopes=await probes.scopes(),
        priority=await probes.priority(),
    )


async def _context_length(server: ModelServer, model: str) -> int | None:
    """Return the context that the server's list of models names; None if it has no list, or names none.

    Raises:
        ConfigurationError: if there is no such model in it.
    """
    try:
        listed = await server.get("/v1/models")
    except RemoteError as error:
        if error.status in (404, 405):
            return None
        raise
    data = listed.get("data") if isinstance(listed, dict) else None
    entries = {str(entry.get("id")): entry for entry in data or () if isinstance(entry, dict)}
    if model not in entries:
        served = nearest(model, entries) or ", ".join(entries) or "none"
        raise ConfigurationError(f"{server} does not serve a model named {model!r}; it serves {served}")
    said = entries[model].get("max_model_len")
    return said if isinstance(said, int) and said > 0 else None


class _Probes:
    """One question for each capability. A refusal is an answer; a server that cannot be asked is an error."""

    def __init__(
        self, server: ModelServer, model: str, tokenizer: Tokenizer, prompt: Sequence[int] | str
    ) -> None:
        self._server = server
        self._tokenizer = tokenizer
        self._model = model
        self._body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0}

    async def token_ids(self, prompt_ids: Sequence[int]) -> bool:
        choice = first_choice(await self._asked(return_token_ids=True))
        ids = choice.get("token_ids")
        return (
            isinstance(ids, list) and len(ids) == 1 and choice.get("prompt_token_ids") in (None, prompt_ids)
        )

    async def cached_tokens(self) -> bool:
        return cached_tokens(await self._server.post(COMPLETIONS, self._body)) is not None

    async def tokenizer_checked(self) -> bool:
        """Compare how a text is split, and which ids special tokens have."""
        specials = sorted(self._tokenizer.special_ids.items(), key=lambda item: item[1])
        split = await self._tokenized(_SAMPLE)
        named = await self._tokenized("".join(name for name, _ in specials))
        if split is None or named is None:
            return False
        if split != self._tokenizer.encode(_SAMPLE) or named != [token_id for _, token_id in specials]:
            raise ConfigurationError(
                f"{self._server} does not tokenize for {self._model!r} as the given tokenizer does; "
                "pass tokenizer= of the model that it serves"
            )
        return True

    async def grammar(self) -> bool:
        """Ask for what the model would not say, ended by a token that is named in the grammar."""
        ends = self._tokenizer.eos_ids
        answer = await self._asked(
            max_tokens=8,
            stop_token_ids=sorted(ends),
            structured_outputs=structured_outputs(Grammar(lark=f'start: "{_UNLIKELY}"'), ends),
        )
        choice = first_choice(answer)
        return choice.get("text") == _UNLIKELY and choice.get("finish_reason") == "stop"

    async def scoring(self) -> Scoring:
        wanted = self._tokenizer.encode(_UNLIKELY)
        answer = await self._asked(logprobs=0, logprob_token_ids=wanted, return_tokens_as_token_ids=True)
        if set(wanted) <= logprobs_of(answer).keys():
            return "candidates"
        answer = await self._asked(logprobs=MOST_LOGPROBS, return_tokens_as_token_ids=True)
        return "most_likely" if len(logprobs_of(answer)) >= MOST_LOGPROBS else "none"

    async def scopes(self) -> bool:
        """Give a salt that only a server without salts would take: an empty one."""
        return await self._asked(cache_salt="") is None

    async def priority(self) -> bool:
        """Give a priority that is none, and then one that a server has to act on."""
        return await self._asked(priority="high") is None and await self._asked(priority=1) is not None

    async def _asked(self, **options: Any) -> Any:
        """Return the answer to our prompt; None if the server refuses these options."""
        return await _taken(self._server, COMPLETIONS, {**self._body, **options})

    async def _tokenized(self, text: str) -> list[int] | None:
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        answer = await _taken(self._server, "/tokenize", body)
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        return tokens if isinstance(tokens, list) and tokens else None


async def _taken(server: ModelServer, path: str, body: Mapping[str, Any]) -> Any:
    """Return what a server answers; None if it answers that it will not, or cannot.

    Raises:
        InferenceError: if it does not answer, is too busy, or does not know us.
    """
    try:
        return await server.post(path, body)
    except RemoteError as error:
        if error.status in (None, 401, 403, 429, 503):
            raise
        return None
