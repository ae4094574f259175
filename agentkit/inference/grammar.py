"""Constrained decoding: which token may come next under a grammar. Knows no tools and no dialects.

llguidance compiles and walks it in milliseconds, so every call may bring another grammar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np

from agentkit.errors import GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.schema_rule import LIMITS, one_line, schema_rule
from agentkit.inference.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

_SILENT = 0


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
        self._matcher = llguidance.LLMatcher(
            tokenizer.llguidance(), grammar.lark, log_level=_SILENT, limits=LIMITS
        )
        self._bitmask = np.zeros((self._vocab_size + 31) // 32, dtype=np.int32)
        if self._matcher.is_error():
            raise GrammarError(f"the grammar does not compile: {one_line(self._matcher.get_error())}")

    @property
    def accepting(self) -> bool:
        """Whether the output may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether nothing may follow but an end token."""
        return bool(self._matcher.is_stopped())

    def mask_logits(self, logits: torch.Tensor) -> None:
        """Set the logits (vocab,) of all tokens that may not come next to minus infinity, in place.

        Logits wider than the vocabulary are padding, and never allowed. A token without a logit, such as a
        padding token that was added to the tokenizer alone, cannot come at all.

        Raises:
            GrammarError: if no token can continue the output, or the grammar is too complex to follow.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bitmask.ctypes.data, self._bitmask.nbytes)
        if self._matcher.is_error():
            raise GrammarError(f"the grammar cannot be followed: {one_line(self._matcher.get_error())}")
        allowed = np.unpackbits(self._bitmask.view(np.uint8), bitorder="little")[: self._vocab_size][
            : len(logits)
        ]
        if not allowed.any():
            raise GrammarError("the grammar allows no token of this vocabulary")
        bias = np.where(allowed, np.float32(0.0), np.float32(-np.inf))
        logits[: len(bias)] += logits.new_tensor(bias)
        logits[self._vocab_size :] = float("-inf")

    def advance(self, token_id: int) -> None:
        """Take the token that was drawn.

        Raises:
            GrammarError: if the grammar does not allow it here.
        """
        if not 0 <= token_id < self._vocab_size or not self._matcher.consume_token(token_id):
            raise GrammarError(f"the grammar does not allow token {token_id} here")
