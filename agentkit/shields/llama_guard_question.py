"""One prompt put to Llama Guard: the probability of `unsafe`, and of each category after it. Decides nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentkit.errors import InferenceError, ShieldError
from agentkit.inference.common_prefix import common_length
from agentkit.shields.base import ShieldInput
from agentkit.shields.llama_guard_prompt import GuardPrompt

if TYPE_CHECKING:
    from agentkit.inference.base import Engine

# A model that assesses puts nearly all of the next token on `safe` and `unsafe`; another model does not.
_MIN_MASS = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A way to ask: an engine and the prompt around what is judged. `reference` names the model in errors."""

    engine: Engine
    prompt: GuardPrompt
    reference: str

    def about(self, content: ShieldInput) -> AskedQuestion:
        """Return the question about one piece of content."""
        rendered = self.prompt.render(content)
        # What the prompt shares with the one around no conversation is the shield's own, of no scope.
        public_prefix = common_length(rendered, self.prompt.template(content.stage))
        return AskedQuestion(
            question=self, prompt_ids=rendered, scope=content.scope, public_prefix=public_prefix
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """A prompt whose next token is an answer."""

    question: Question
    prompt_ids: list[int]
    scope: str
    public_prefix: int

    async def unsafe_probability(self) -> float:
        """Return the probability of `unsafe` against `safe`.

        Raises:
            ShieldError: if the engine fails, or the two do not hold most of the probability.
        """
        ids = self.question.prompt.ids
        safe, unsafe = (
            math.exp(value) for value in await self._logprobs(self.prompt_ids, (ids.safe, ids.unsafe))
        )
        mass = safe + unsafe
        if not mass > _MIN_MASS:
            raise ShieldError(
                f"{self.question.reference} gave no assessment: `safe` and `unsafe` have {mass:.3f} of the "
                f"probability, more than {_MIN_MASS} is expected; is it a Llama Guard 3 model?"
            )
        return unsafe / mass

    async def shares(self, codes: Sequence[str]) -> dict[str, float]:
        """Return how what was found unsafe is distributed over the categories, of which one is violated.

        Raises:
            ShieldError: if the engine fails, or gives none of them any probability.
        """
        if len(codes) == 1:
            return {codes[0]: 1.0}
        prompt = self.question.prompt
        numbers = [prompt.ids.numbers[code] for code in codes]
        logprobs = await self._logprobs(prompt.category_question(self.prompt_ids), numbers)
        most = max(logprobs)
        if most == -math.inf:
            raise ShieldError(f"{self.question.reference} found the content unsafe and names no category")
        weights = [math.exp(value - most) for value in logprobs]
        return {code: weight / sum(weights) for code, weight in zip(codes, weights, strict=True)}

    async def _logprobs(self, prompt_ids: list[int], candidate_ids: Sequence[int]) -> tuple[float, ...]:
        """Return the log-probability of each candidate as the next token.

        Raises:
            ShieldError: if the engine fails, or answers with something that is no probability.
        """
        try:
            score = await self.question.engine.score(
                prompt_ids, candidate_ids, scope=self.scope, public_prefix=self.public_prefix
            )
        except InferenceError as exc:
            raise ShieldError(
                f"llama_guard could not judge a prompt of {len(prompt_ids)} tokens: {exc}"
            ) from exc
        if len(score.logprobs) != len(candidate_ids) or not all(value <= 1e-4 for value in score.logprobs):
            raise ShieldError("llama_guard got scores from the engine that are no probabilities")
        return score.logprobs
