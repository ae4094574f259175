"""Requests for hidden states: those that leave their keys and values to others, and those that stop half-way up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from agentkit.inference.base import Observe, Priority
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import Output, Part
from agentkit.inference.observed import StatesCollector
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
        self._collector = StatesCollector(Observe(start=start, stop=len(self.ids), layers=tuple(layers)))

    @property
    def reusable(self) -> int:
        """How many of the leading ids need not be computed if they are cached."""
        return self._collector.next

    def part(self, count: int) -> Part:
        """Return what the next step computes: hidden states, and no logits."""
        return replace(super().part(count), logits=0, layers=self._collector.layers)

    def take(self, output: Output) -> None:
        """Keep the hidden states; the last ones complete the answer."""
        states = self._collector.take(output.hidden, computed=len(self.ids) - self.pending)
        if states is not None:
            self.finished = True
            self._mailbox.send(states)


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
        return replace(super().part(count), depth=max(self._collector.layers))
