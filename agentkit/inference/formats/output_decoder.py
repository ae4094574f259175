"""Output ids to the text that parsers read. The only special id that keeps a meaning is the python tag."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from agentkit.inference.formats.call_parser import PYTHON_TAG
from agentkit.inference.tokenizer import Tokenizer


class TaggedDecoder:
    """Decodes one output. The tag's id becomes PYTHON_TAG; that character in ordinary text becomes U+FFFD."""

    def __init__(
        self, tokenizer: Tokenizer, *, stop_ids: AbstractSet[int], python_tag_id: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = stop_ids
        self._python_tag_id = python_tag_id
        self._decoder = tokenizer.decoder()

    def feed(self, token_id: int) -> str:
        """Return the text that is certain now; never half a character."""
        if token_id in self._stop_ids:
            return ""
        if token_id == self._python_tag_id:
            before = self.finish()
            self._decoder = self._tokenizer.decoder()
            return before + PYTHON_TAG
        return _ordinary(self._decoder.feed(token_id))

    def finish(self) -> str:
        """End the output; return U+FFFD if a character was left incomplete."""
        return _ordinary(self._decoder.finish())


def stop_token(tokenizer: Tokenizer, stop_ids: AbstractSet[int], output_ids: Sequence[int]) -> str | None:
    """Return the special token that ended an output; None if none of them did."""
    if not output_ids or output_ids[-1] not in stop_ids:
        return None
    names = {token_id: name for name, token_id in tokenizer.special_ids.items()}
    return names.get(output_ids[-1])


def _ordinary(text: str) -> str:
    return text.replace(PYTHON_TAG, "\N{REPLACEMENT CHARACTER}")
