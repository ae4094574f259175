"""A grammar and stop ids together: what may come next, and where the output may end. Draws nothing itself."""

from __future__ import annotations

import torch

from agentkit.errors import GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.grammar import GrammarMatcher
from agentkit.inference.tokenizer import Tokenizer


class GrammarConstraint:
    """Lets through what the grammar allows, and the stop ids wherever the grammar may end.

    A stop id need not be an end of text to llguidance; an end of text that is no stop id cannot be drawn.

    Raises:
        GrammarError: at construction, if the grammar does not compile or there is no stop id to end with.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, stop_ids: frozenset[int]) -> None:
        if not stop_ids:
            raise GrammarError("a generation under a grammar needs stop ids to end with, got none")
        self._matcher = GrammarMatcher(grammar, tokenizer)
        self._stop_ids = sorted(stop_ids)
        self._other_ends = sorted(tokenizer.eos_ids - stop_ids)

    def mask(self, logits: torch.Tensor) -> None:
        """Set the logits (vocab_size,) of what must not come next to minus infinity, in place.

        Raises:
            GrammarError: if nothing may come next.
        """
        stop_logits = logits[self._stop_ids]
        finished = self._matcher.finished
        if finished:
            logits.fill_(float("-inf"))
        else:
            self._matcher.mask_logits(logits)
            logits[[token_id for token_id in self._other_ends if token_id < len(logits)]] = float("-inf")
        if finished or self._matcher.accepting:
            logits[self._stop_ids] = stop_logits
        if not bool((logits > float("-inf")).any()):
            raise GrammarError("the grammar allows no token of this vocabulary but an end that is no stop id")

    def advance(self, token_id: int) -> None:
        """Take a drawn token, which is no stop id."""
        self._matcher.advance(token_id)
