"""Constrained decoding: which token may come next under a grammar. Knows no tools and no dialects.

llguidance compiles and walks it in milliseconds, so every call may bring another grammar; one that was seen
lately is not compiled again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import llguidance
import numpy as np

from agentkit.errors import GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.schema_rule import LIMITS, one_line, schema_rule
from agentkit.inference.tokenizer import Tokenizer

_SILENT = 0

# The steps of a conversation have the same grammar. Kept for as long as the vocabulary that it was compiled for.
_COMPILED: WeakKeyDictionary[Tokenizer, dict[str, Any]] = WeakKeyDictionary()
_MAX_COMPILED = 32


def json_schema_grammar(schema: Mapping[str, Any]) -> Grammar:
    """Return the grammar of the JSON texts that fit the schema, with the whitespace of `json.dumps`.

    Raises:
        GrammarError: if the schema says something that a grammar cannot hold, naming the keyword and its place.
    """
    return Grammar(lark=f"start: {schema_rule(schema)}")


class GrammarMatcher:
    """Walks one grammar along one output. Not shared between outputs or threads.

    Raises:
        GrammarError: at construction, if the grammar does not compile.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer) -> None:
        self._vocab_size = tokenizer.vocab_size
        self._matcher = _compiled(grammar, tokenizer).deep_copy()
        self._bitmask = np.zeros((self._vocab_size + 31) // 32, dtype=np.int32)

    @property
    def accepting(self) -> bool:
        """Whether the output may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether nothing may follow but an end token."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def allowed(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return for every token of the vocabulary whether it may come next.

        Raises:
            GrammarError: if no token can continue the output, or the grammar is too complex to follow.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bitmask.ctypes.data, self._bitmask.nbytes)
        if self._matcher.is_error():
            raise GrammarError(f"the grammar cannot be followed: {one_line(self._matcher.get_error())}")
        bits = np.unpackbits(self._bitmask.view(np.uint8), count=self._vocab_size, bitorder="little")
        if not bits.any():
            raise GrammarError("the grammar allows no token of this vocabulary")
        return bits.view(np.bool_)

    def advance(self, token_id: int) -> None:
        """Take the token that was drawn.

        Raises:
            GrammarError: if the grammar does not allow it here.
        """
        if not 0 <= token_id < self._vocab_size or not self._matcher.consume_token(token_id):
            raise GrammarError(f"the grammar does not allow token {token_id} here")


def _compiled(grammar: Grammar, tokenizer: Tokenizer) -> Any:
    """Return the matcher at the beginning of the grammar, to be copied: a copy costs a thousandth of compiling."""
    compiled = _COMPILED.setdefault(tokenizer, {})
    if grammar.lark not in compiled:
        matcher = llguidance.LLMatcher(tokenizer.llguidance(), grammar.lark, log_level=_SILENT, limits=LIMITS)
        if matcher.is_error():
            raise GrammarError(f"the grammar does not compile: {one_line(matcher.get_error())}")
        for oldest in list(compiled)[: len(compiled) - _MAX_COMPILED + 1]:
            compiled.pop(oldest, None)
        compiled[grammar.lark] = matcher
    return compiled[grammar.lark]
