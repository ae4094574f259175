"""How prompts and outputs travel to a model server: as token ids, or as text where a server takes no ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from agentkit.errors import InferenceError
from agentkit.inference.tokenizer import Tokenizer

_MOST_STOP_TEXTS: Final = 4
"""OpenAI's bound, which other servers copied."""


class Wire(Protocol):
    """A way for prompts and outputs."""

    def asked(self, prompt_ids: Sequence[int], stop_ids: frozenset[int]) -> dict[str, Any]:
        """Return what a request says of its prompt and of what ends its output.

        Raises:
            InferenceError: if the prompt cannot be said.
        """

    def ids_of(self, choice: Mapping[str, Any]) -> list[int]:
        """Return the ids of a part of an output."""

    def stop_id(self, stopped_by: Any, stop_ids: frozenset[int]) -> int:
        """Return which of the stop ids ended an output without being part of it, by what the server says of it."""


class IdWire:
    """Token ids there and back: nothing is tokenized by the server."""

    def asked(self, prompt_ids: Sequence[int], stop_ids: frozenset[int]) -> dict[str, Any]:
        """Return the ids as they are; the server's own ends do not count, unless they are among the stop ids."""
        return {
            "prompt": list(prompt_ids),
            "return_token_ids": True,
            "stop_token_ids": sorted(stop_ids),
            "ignore_eos": True,
            # vLLM takes these from the model's generation_config.json where a request does not say them.
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }

    def ids_of(self, choice: Mapping[str, Any]) -> list[int]:
        """Return the ids that the server drew."""
        ids = choice.get("token_ids") or []
        return [token_id for token_id in ids if isinstance(token_id, int)]

    def stop_id(self, stopped_by: Any, stop_ids: frozenset[int]) -> int:
        """Return the id that the server names, or the first of all."""
        return stopped_by if stopped_by in stop_ids else min(stop_ids)


class TextWire:
    """Text there and back, for servers that take no ids.

    Such a server sees special tokens wherever a text spells them, so a prompt whose text does is refused.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names = {token_id: name for name, token_id in tokenizer.special_ids.items()}
        longest_first = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def asked(self, prompt_ids: Sequence[int], stop_ids: frozenset[int]) -> dict[str, Any]:
        """Return the text of the ids.

        Raises:
            InferenceError: if its text spells a special token that is none.
        """
        text = self._tokenizer.decode(prompt_ids, skip_special=False)
        meant = [self._names[token_id] for token_id in prompt_ids if token_id in self._names]
        spelt = self._special.findall(text)
        if spelt != meant:
            raise InferenceError(
                f"the prompt spells {len(spelt)} special tokens and means {len(meant)}: a server that takes text "
                "could not tell them apart; use a server that takes token ids, such as vLLM"
            )
        ends = [self._names[token_id] for token_id in sorted(stop_ids) if token_id in self._names]
        return {"prompt": text, "stop": ends[:_MOST_STOP_TEXTS], "add_special_tokens": False}

    def ids_of(self, choice: Mapping[str, Any]) -> list[int]:
        """Return ids with the text that the server wrote; they need not be those that it drew."""
        text = choice.get("text")
        return self._tokenizer.encode(text) if isinstance(text, str) else []

    def stop_id(self, stopped_by: Any, stop_ids: frozenset[int]) -> int:
        """Return the id whose text the server names, or else one that ends a text."""
        named = self._tokenizer.special_ids.get(stopped_by) if isinstance(stopped_by, str) else None
        return named if named in stop_ids else min(stop_ids & self._tokenizer.eos_ids or stop_ids)
