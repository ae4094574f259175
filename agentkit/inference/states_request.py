"""Requests for hidden states: those that leave their keys and values to others, and those that stop half-way up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from agentkit.inference.base import Priority
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import Output, Part
from agentkit.inference.request import Request


class HiddenStatesRequest(Request[torch.Tensor]):
    """Asks for the hidden states of some layers after the ids from `start` on: (ids, layers, hidden_size)."""

    def __init__(
        self,
        ids: Sequence[int],
        layers: Sequence[int],
        *,
        start: int,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[torch.Tensor],
    ) -> None:
        super().__init__(ids, priority=priority, scope=scope, mailbox=mailbox)
        self._layers = tuple(layers)
        self._next = start  # the first id whose hidden states are still wanted
        self._states: list[torch.Tensor] = []

    @property
    def reusable(self) -> int:
        """How many of the leading ids need not be computed if they are cached."""
        return self._next

    def part(self, count: int) -> Part:
        """Return what the next step computes: hidden states, and no logits."""
        return replace(super().part(count), logits=0, layers=self._layers)

    def take(self, output: Output) -> None:
        """Keep the hidden states; the last ones complete the answer."""
        computed = len(self.ids) - self.pending
        fresh = max(0, computed - self._next)  # the others came before `start`, or a second time
        if output.hidden is not None and fresh > 0:
            self._states.append(output.hidden[:, output.hidden.shape[1] - fresh :].cpu())
            self._next = computed
        if self.pending == 0:
            self.finished = True
            self._mailbox.send(torch.cat(self._states, dim=1).transpose(0, 1).contiguous())


class EarlyStatesRequest(HiddenStatesRequest):
    """Asks for hidden states after all its ids, and lets no layer above the highest of them run."""

    cacheable = False

    def __init__(
        self, ids: Sequence[int], layers: Sequence[int], *, priority: Priority, mailbox: Mailbox[torch.Tensor]
    ) -> None:
        super().__init__(ids, layers, start=0, priority=priority, scope="", mailbox=mailbox)

    @property
    def reusable(self) -> int:
        """None: what it computed is not kept, even for itself."""
        return 0

    def part(self, count: int) -> Part:
        """Return what the next step computes: the layers that are asked for and those below."""
        return replace(super().part(count), depth=max(self._layers))
