"""Log-probabilities of chosen tokens as the next one, from a model server. What it does not give is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Final

from agentkit.errors import InferenceError
from agentkit.inference.base import Score, Usage
from agentkit.inference.remote_answers import COMPLETIONS, cached_tokens, logprobs_of
from agentkit.inference.remote_capabilities import MOST_LOGPROBS
from agentkit.inference.remote_faults import retrying
from agentkit.inference.remote_model import RemoteModel
from agentkit.inference.remote_server import ModelServer

_MOST_CANDIDATES: Final = 128
"""How many ids vLLM scores in one request."""


async def score_on(
    server: ModelServer,
    model: RemoteModel,
    prompt_ids: Sequence[int],
    candidate_ids: Sequence[int],
    *,
    options: Mapping[str, Any],
    retry_seconds: float,
) -> Score:
    """Return the log-probability of each candidate; many of them take several requests.

    Raises:
        InferenceError: if the server fails, or does not give that of a candidate.
    """
    if model.capabilities.scoring == "none":
        raise InferenceError(f"{server} gives no log-probabilities by token id; score on another server")
    wanted = list(dict.fromkeys(candidate_ids))
    found: dict[int, float] = {}
    usage = Usage()
    for start in range(0, len(wanted), _MOST_CANDIDATES):
        asked = {**options, **_asked(model, prompt_ids, wanted[start : start + _MOST_CANDIDATES])}
        begun = perf_counter()
        answer = await _answer(
            server,
            asked,
            prompt_tokens=len(prompt_ids),
            context_length=model.bounds.context_length,
            retry_seconds=retry_seconds,
        )
        found |= logprobs_of(answer)
        usage += _usage(answer, len(prompt_ids), perf_counter() - begun)
    missing = [token_id for token_id in wanted if token_id not in found]
    if missing:
        raise InferenceError(
            f"{server} gave no log-probability for {len(missing)} of {len(wanted)} candidates: "
            f"it gives those of its {MOST_LOGPROBS} most likely tokens"
        )
    return Score(logprobs=tuple(found[token_id] for token_id in candidate_ids), usage=usage)


def _asked(model: RemoteModel, prompt_ids: Sequence[int], wanted: Sequence[int]) -> dict[str, Any]:
    asked = {
        **model.wire.asked(prompt_ids, frozenset()),
        "max_tokens": 1,
        "temperature": 0.0,
        "return_tokens_as_token_ids": True,
    }
    if model.capabilities.scoring == "candidates":
        return {**asked, "logprobs": 0, "logprob_token_ids": list(wanted)}
    return {**asked, "logprobs": MOST_LOGPROBS}


async def _answer(
    server: ModelServer,
    asked: Mapping[str, Any],
    *,
    prompt_tokens: int,
    context_length: int,
    retry_seconds: float,
) -> Any:
    return await retrying(
        lambda: server.post(COMPLETIONS, asked, prompt_tokens=prompt_tokens, context_length=context_length),
        seconds=retry_seconds,
    )


def _usage(answer: Any, prompt_tokens: int, seconds: float) -> Usage:
    cached = min(cached_tokens(answer) or 0, prompt_tokens)
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached,
        prefilled_tokens=prompt_tokens - cached,
        prefill_seconds=seconds,
    )
