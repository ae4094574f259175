"""What the answers of `/v1/completions` hold. A part that is missing, or not as it should be, counts as not said."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

COMPLETIONS: Final = "/v1/completions"

# Asked for with `return_tokens_as_token_ids`; a bare number would be a token's text.
_TOKEN_ID: Final = re.compile(r"token_id:(\d+)", re.ASCII)


def first_choice(answer: Any) -> Mapping[str, Any]:
    """Return the first output of an answer or of an event; an empty one where there is none."""
    choices = _part(answer, "choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def cached_tokens(answer: Any) -> int | None:
    """Return how many tokens of the prompt a server says that it had cached."""
    said = _part(_part(_part(answer, "usage"), "prompt_tokens_details"), "cached_tokens")
    return said if isinstance(said, int) else None


def logprobs_of(answer: Any) -> dict[int, float]:
    """Return the log-probabilities of the first token of an output, by id."""
    tokens = _part(_part(first_choice(answer), "logprobs"), "top_logprobs")
    first = tokens[0] if isinstance(tokens, list) and tokens else None
    found = {}
    for name, value in (first if isinstance(first, dict) else {}).items():
        spelt = _TOKEN_ID.fullmatch(name)
        if spelt and isinstance(value, int | float) and not math.isnan(value):
            found[int(spelt[1])] = float(value)
    return found


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
