"""Whether two sequences of ids say the same to a model. Knows no message and no store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentkit.inference.tokenizer import Tokenizer

_IGNORED: Final = "<|python_tag|>"
"""Llama 3.1 may put it before a call; a rendered call has none."""

_ENDS: Final = {"<|eom_id|>": "<|eot_id|>"}
"""Llama 3.1 ends a message that calls a tool in either way."""


def say_the_same(tokenizer: Tokenizer, ids: Sequence[int], rendered: Sequence[int]) -> bool:
    """Whether `ids` have the same special tokens at the same places as `rendered`, and the same text between them.

    One text has many spellings as ids. Shields judge the text and the model reads the ids: what a model wrote, or
    a store returned, may only be used while both are the same. How much white space stands somewhere does not
    count, nor whether any stands around a special token.
    """
    return list(ids) == list(rendered) or _parts(tokenizer, ids) == _parts(tokenizer, rendered)


def _parts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return texts and special tokens in turn, beginning with a text."""
    names = {token_id: name for name, token_id in tokenizer.special_ids.items()}
    parts: list[str] = []
    text: list[int] = []
    for token_id in ids:
        name = names.get(token_id)
        if name is None:
            text.append(token_id)
        elif name != _IGNORED:
            parts += [_evenly_spaced(tokenizer.decode(text)), _ENDS.get(name, name)]
            text = []
    return [*parts, _evenly_spaced(tokenizer.decode(text))]


def _evenly_spaced(text: str) -> str:
    return " ".join(text.split())
