"""Text to token ids and back. Knows no roles and no prompts, and loads no torch.

Text is only ever text: no spelling of a special token in it becomes that token. Formats write special ids.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from llguidance import LLTokenizer, TokenizerWrapper

from agentkit.inference.tokenizer_parts import TokenizerParts
from agentkit.inference.tokenizer_sources import read_tokenizer_parts


def load_tokenizer(path: Path) -> Tokenizer:
    """Load the tokenizer of a checkpoint: a folder (tokenizer.json or tokenizer.model) or a .gguf file.

    Raises:
        ModelLoadError: if there is none, it is corrupt, or it is of a kind we cannot read.
    """
    return Tokenizer(read_tokenizer_parts(path))


class Tokenizer:
    """A vocabulary. Immutable and safe to use from several threads."""

    def __init__(self, parts: TokenizerParts) -> None:
        self._parts = parts
        self._special_ids = MappingProxyType(dict(parts.added_ids))

    @property
    def vocab_size(self) -> int:
        """One more than the highest id. A model's logits may be wider: the rest is padding."""
        return len(self._parts.token_bytes)

    @property
    def special_ids(self) -> Mapping[str, int]:
        """The tokens that no text encodes to, by their spelling: control tokens and other added tokens."""
        return self._special_ids

    @property
    def bos_id(self) -> int | None:
        """The id that begins a prompt; None where the vocabulary has none."""
        return self._parts.bos_id

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a text, a message or a turn."""
        return self._parts.eos_ids

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that the checkpoint carries."""
        return self._parts.chat_template

    @property
    def fingerprint(self) -> str:
        """SHA-256 over vocabulary, merges, splitting rules and special tokens."""
        return self._parts.fingerprint

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text. A special token spelt in it is encoded as the characters it is."""
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, as JSON may carry, has no UTF-8
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._parts.encode(text)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of ids. Bytes that are not UTF-8 become U+FFFD; ids out of range have no text.

        `skip_special` leaves out control tokens; other added tokens have a text in any case.
        """
        hidden = self._parts.control_ids if skip_special else frozenset()
        known = (token_id for token_id in ids if token_id not in hidden and 0 <= token_id < self.vocab_size)
        return b"".join(self._parts.token_bytes[token_id] for token_id in known).decode("utf-8", "replace")

    def decoder(self) -> IncrementalDecoder:
        """Return a decoder for one stream of ids."""
        return IncrementalDecoder(self._parts)

    def llguidance(self) -> LLTokenizer:
        """Return this vocabulary in the form that constrained decoding needs, built once."""
        return self._llguidance

    @cached_property
    def _llguidance(self) -> LLTokenizer:
        vocabulary = TokenizerWrapper(_GuidanceVocabulary(self))
        return LLTokenizer(vocabulary, n_vocab=self.vocab_size, eos_token=sorted(self.eos_ids))


class IncrementalDecoder:
    """Turns a stream of ids into text; all pieces together are what `Tokenizer.decode` gives."""

    def __init__(self, parts: TokenizerParts) -> None:
        self._parts = parts
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """Return the text that is certain now; never half a character. Control tokens have none."""
        if token_id in self._parts.control_ids or not 0 <= token_id < len(self._parts.token_bytes):
            return ""
        return self._utf8.decode(self._parts.token_bytes[token_id])

    def finish(self) -> str:
        """End the stream; return U+FFFD if a character was left incomplete."""
        return self._utf8.decode(b"", final=True)


class _GuidanceVocabulary:
    """What llguidance asks of a tokenizer, under the names it asks for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        parts = tokenizer._parts
        self._encode = tokenizer.encode
        self.tokens = parts.token_bytes
        self.special_token_ids = sorted(parts.added_ids.values())
        self.eos_token_id = min(parts.eos_ids)
        self.bos_token_id = parts.bos_id

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))
