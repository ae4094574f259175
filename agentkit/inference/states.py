"""The hidden states that an engine gives: of all layers that it runs, or of the lower ones alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from agentkit.inference.base import Priority
from agentkit.inference.bounds import Bounds
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.request import Request
from agentkit.inference.states_request import EarlyStatesRequest, HiddenStatesRequest


class GivesStates(ABC):
    """What `LocalEngine` is to whoever reads hidden states."""

    _bounds: Bounds

    async def hidden_states(
        self,
        ids: Sequence[int],
        layers: Sequence[int],
        *,
        start: int = 0,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
    ) -> np.ndarray:
        """Return what the layers make of the ids from `start` on, in fp32: (ids, layers, hidden_size).

        Layer 0 is the embedding, layer `n` the output of the n-th, before the model's last norm. What is cached of
        the ids before `start` is used; what is computed stays cached, for whoever generates after these ids.

        Raises:
            ContextLengthError, InferenceError: as `generate`, or if `layers` or `start` are out of range.
        """
        self._bounds.check_states(ids, layers, start=start)
        mailbox: Mailbox[torch.Tensor] = Mailbox()
        request = HiddenStatesRequest(
            ids, layers, start=start, priority=priority, scope=scope, mailbox=mailbox
        )
        with self._submitted(request):
            return (await mailbox.receive()).numpy()

    async def early_states(
        self, ids: Sequence[int], layers: Sequence[int], *, priority: Priority = Priority.SHIELD
    ) -> np.ndarray:
        """Return `hidden_states` of all ids at that share of a prefill's cost; uses and leaves nothing cached.

        Raises:
            ContextLengthError, InferenceError: as `hidden_states`.
        """
        self._bounds.check_states(ids, layers, start=0)
        mailbox: Mailbox[torch.Tensor] = Mailbox()
        request = EarlyStatesRequest(ids, layers, priority=priority, mailbox=mailbox)
        with self._submitted(request):
            return (await mailbox.receive()).numpy()

    @abstractmethod
    def _submitted(self, request: Request[Any]) -> AbstractContextManager[None]:
        """Have a request served until the block ends, however it does."""
