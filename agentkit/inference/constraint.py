"""A grammar and stop ids together: what may come next, and where the output may end. Draws nothing itself.

What may come next is known before the logits are: it can be worked out in another thread while the model runs.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from agentkit.errors import GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.grammar import GrammarMatcher
from agentkit.inference.tokenizer import Tokenizer

# Shared by all constraints. llguidance lets go of the interpreter's lock, so these run beside the model.
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="agentkit-grammar")


class GrammarConstraint:
    """Lets through what the grammar allows, and the stop ids wherever the grammar may end.

    A stop id need not be an end of text to llguidance; an end of text that is no stop id cannot be drawn.
    For every token: `begin_mask` where there is something else to do meanwhile, `mask`, draw, `advance`.

    Raises:
        GrammarError: at construction, if the grammar does not compile or there is no stop id to end with.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, stop_ids: frozenset[int]) -> None:
        if not stop_ids:
            raise GrammarError("a generation under a grammar needs stop ids to end with, got none")
        self._matcher = GrammarMatcher(grammar, tokenizer)
        self._stop_ids = sorted(stop_ids)
        self._other_ends = sorted(tokenizer.eos_ids - stop_ids)
        self._num_ids = max(tokenizer.vocab_size, self._stop_ids[-1] + 1)
        self._begun: Future[torch.Tensor] | None = None

    def begin_mask(self) -> None:
        """Start working out what may come next; `mask` then takes it, and raises where that failed."""
        if self._begun is None:
            self._begun = _THREADS.submit(self._forbidden)

    def mask(self, logits: torch.Tensor) -> None:
        """Set the logits (num_logits,) of what must not come next to minus infinity, in place.

        A token without a logit cannot come, and a logit without a token is padding.

        Raises:
            GrammarError: if nothing may come next.
        """
        forbidden = self._mask()[: len(logits)]
        if bool(forbidden.all()):
            raise GrammarError("the grammar allows no token of this vocabulary but an end that is no stop id")
        logits[: len(forbidden)].masked_fill_(forbidden.to(logits.device), float("-inf"))
        logits[len(forbidden) :] = float("-inf")

    def advance(self, token_id: int) -> None:
        """Take a drawn token, which is no stop id."""
        if self._begun is not None:
            self._mask()  # the matcher must stand still while it is asked
        self._matcher.advance(token_id)

    def _mask(self) -> torch.Tensor:
        """Return the mask that was begun, or work it out here."""
        begun, self._begun = self._begun, None
        return self._forbidden() if begun is None else begun.result()

    def _forbidden(self) -> torch.Tensor:
        """Return for every id whether it must not come next."""
        forbidden = np.ones(self._num_ids, dtype=np.bool_)
        finished = self._matcher.finished
        if not finished:
            allowed = self._matcher.allowed()
            forbidden[: len(allowed)] = ~allowed
            forbidden[self._other_ends] = True
        if finished or self._matcher.accepting:
            forbidden[self._stop_ids] = False
        return torch.from_numpy(forbidden)
