"""Hidden states that are taken along from a forward pass, piece by piece, as a prefill goes on."""

from __future__ import annotations

import anyio
import numpy as np
import torch
from numpy.typing import NDArray

from agentkit.errors import InferenceError
from agentkit.inference.base import Observe
from agentkit.inference.mailbox import Mailbox


class StatesCollector:
    """Puts together what steps give of the ids that are observed."""

    def __init__(self, observe: Observe) -> None:
        self.layers = observe.layers
        self.next = observe.start
        """The first id whose hidden states are still wanted."""
        self._stop = observe.stop
        self._states: list[torch.Tensor] = []

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""
        return self.next >= self._stop

    def take(self, hidden: torch.Tensor | None, *, computed: int) -> torch.Tensor | None:
        """Keep what a step gave, (layers, ids, hidden_size), up to the `computed`-th id.

        Returns all that was wanted, (ids, layers, hidden_size), once the last of it has come.
        """
        end = min(computed, self._stop)
        if hidden is None or end <= self.next:
            return None  # these came before `start`, or a second time
        offset = hidden.shape[1] - computed
        self._states.append(hidden[:, self.next + offset : end + offset].cpu())
        self.next = end
        return torch.cat(self._states, dim=1).transpose(0, 1).contiguous() if self.done else None


class ObservedStates:
    """Hidden states of some ids of a prompt, from the prefill that somebody else waits for.

    `fingerprint` says of which model. Belongs to the loop that made it; any number of its tasks may wait.
    """

    def __init__(self, observe: Observe, *, fingerprint: str) -> None:
        self.collector = StatesCollector(observe)
        self.fingerprint = fingerprint
        self.layers = observe.layers
        self._mailbox: Mailbox[torch.Tensor] = Mailbox()
        self._lock = anyio.Lock()
        self._received = False
        self._states: NDArray[np.float32] | None = None

    def take(self, hidden: torch.Tensor | None, *, computed: int) -> None:
        """Take along what a step of the prefill gave."""
        states = self.collector.take(hidden, computed=computed)
        if states is not None:
            self._mailbox.send(states)

    def give_up(self) -> None:
        """Let nobody wait any longer: the prefill has ended, or will not."""
        self._mailbox.send(InferenceError("the prefill was not completed"))

    async def receive(self) -> NDArray[np.float32] | None:
        """Wait for the states, (ids, layers, hidden_size); None if the prefill was not completed."""
        async with self._lock:
            if not self._received:
                try:
                    self._states = (await self._mailbox.receive()).numpy()
                except InferenceError:
                    self._states = None
                self._received = True
        return self._states
