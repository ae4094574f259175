"""An engine and shields that do what they are told, on a tokenizer that needs no file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import anyio

from agentkit.errors import ContextLengthError, InferenceError, ShieldError
from agentkit.inference.base import (
    GeneratedToken,
    Grammar,
    Priority,
    SamplingParams,
    Score,
    StopReason,
    Usage,
)
from agentkit.inference.tokenizer import Tokenizer
from agentkit.inference.tokenizer_parts import TokenizerParts
from agentkit.shields.base import Finding, ShieldInput, Verdict

_TURN_START: Final = "<|im_start|>"
_TURN_END: Final = "<|im_end|>"
_SPECIAL_IDS: Final = {_TURN_START: 256, _TURN_END: 257}
_CHATML: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token a byte and ChatML's two special tokens: needs no file."""
    token_bytes = [bytes([value]) for value in range(256)] + [token.encode() for token in _SPECIAL_IDS]
    return Tokenizer(
        TokenizerParts(
            encode=lambda text: list(text.encode()),
            token_bytes=tuple(token_bytes),
            added_ids=_SPECIAL_IDS,
            control_ids=frozenset(_SPECIAL_IDS.values()),
            bos_id=None,
            eos_ids=frozenset({_SPECIAL_IDS[_TURN_END]}),
            chat_template=_CHATML,
            fingerprint="agentkit-testing-bytes",
        )
    )


class ScriptedEngine:
    """An engine that says what it is told to, one reply a generation, on a byte tokenizer.

    Grammars are not applied: a script may say what a grammar would forbid. `prompts` keeps every prompt as text,
    special tokens included, and `prompt_ids` as ids. `seconds_per_token` makes room for a cancellation.
    """

    fingerprint = "agentkit-testing-script"

    def __init__(
        self,
        replies: Sequence[str],
        *,
        scores: Sequence[Sequence[float]] = (),
        context_length: int = 100_000,
        seconds_per_token: float = 0.0,
    ) -> None:
        self._replies = list(replies)
        self._scores = list(scores)
        self._seconds_per_token = seconds_per_token
        self._closed = False
        self.tokenizer: Final = byte_tokenizer()
        self.context_length: Final = context_length
        self.prompts: list[str] = []
        self.prompt_ids: list[tuple[int, ...]] = []

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,  # the script decides
        priority: Priority = Priority.INTERACTIVE,  # nobody waits
        scope: str = "",  # nothing is cached
    ) -> AsyncIterator[GeneratedToken]:
        """Give the next reply, token by token, ended by the stop id.

        Raises:
            InferenceError: if the script is at its end.
        """
        self._take(prompt_ids)
        if not self._replies:
            raise InferenceError(f"the script is at its end; generation {len(self.prompts)} has no reply")
        ids = [*self.tokenizer.encode(self._replies.pop(0)), _SPECIAL_IDS[_TURN_END]]
        cut = ids[: params.max_tokens]
        reason = StopReason.STOP_TOKEN if len(cut) == len(ids) else StopReason.MAX_TOKENS
        for position, token_id in enumerate(cut, start=1):
            await anyio.sleep(self._seconds_per_token)
            if position < len(cut):
                yield GeneratedToken(id=token_id)
            else:
                yield GeneratedToken(
                    id=token_id, stop_reason=reason, usage=_usage(len(prompt_ids), output_tokens=len(cut))
                )

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,  # nobody waits
        scope: str = "",  # nothing is cached
    ) -> Score:
        """Give the next scripted log-probabilities.

        Raises:
            InferenceError: if the script has none left, or another number of them than there are candidates.
        """
        self._take(prompt_ids)
        logprobs = self._scores.pop(0) if self._scores else ()
        if len(logprobs) != len(candidate_ids):
            raise InferenceError(f"the script has {len(logprobs)} scores for {len(candidate_ids)} candidates")
        return Score(logprobs=tuple(logprobs), usage=_usage(len(prompt_ids), output_tokens=0))

    async def close(self) -> None:
        """Refuse what comes after."""
        self._closed = True

    def _take(self, prompt_ids: Sequence[int]) -> None:
        if self._closed:
            raise InferenceError("the engine is closed")
        if len(prompt_ids) >= self.context_length:
            raise ContextLengthError(prompt_tokens=len(prompt_ids), context_length=self.context_length)
        self.prompt_ids.append(tuple(prompt_ids))
        self.prompts.append(self.tokenizer.decode(prompt_ids, skip_special=False))


class StaticShield:
    """A shield that always gives the same verdict, or flags what a function says. `seen` keeps what it judged.

    `find` gives the spans to redact; what it finds is flagged.
    """

    def __init__(
        self,
        *,
        flagged: bool | Callable[[ShieldInput], bool] = False,
        category: str | None = None,
        find: Callable[[str], Sequence[Finding]] | None = None,
    ) -> None:
        self._find = find
        self._flagged = flagged
        self._category = category
        self.seen: list[ShieldInput] = []

    async def start(self) -> None:
        """Need nothing."""

    async def check(self, content: ShieldInput) -> Verdict:
        """Give the verdict."""
        self.seen.append(content)
        findings = tuple(self._find(content.text)) if self._find is not None else ()
        said = self._flagged(content) if callable(self._flagged) else self._flagged
        flagged = said or bool(findings)
        return Verdict(flagged=flagged, category=self._category if flagged else None, findings=findings)

    async def close(self) -> None:
        """Free nothing."""


class FailingShield:
    """A shield that never reaches a verdict: it raises, or sleeps past every timeout first."""

    def __init__(self, *, error: Exception | None = None, seconds: float = 0.0) -> None:
        self._error = error or ShieldError("this shield always fails")
        self._seconds = seconds

    async def start(self) -> None:
        """Need nothing."""

    async def check(self, content: ShieldInput) -> Verdict:  # it never looks
        """Fail.

        Raises:
            Exception: the one given, or a ShieldError.
        """
        await anyio.sleep(self._seconds)
        raise self._error

    async def close(self) -> None:
        """Free nothing."""


def _usage(prompt_tokens: int, *, output_tokens: int) -> Usage:
    return Usage(prompt_tokens=prompt_tokens, prefilled_tokens=prompt_tokens, output_tokens=output_tokens)
