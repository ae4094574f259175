"""How long, and how often, one call goes on looking for a server that serves it. Knows no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentkit.errors import RemoteError

BUSY: Final = frozenset({429, 503})
"""What a healthy server answers that has too much to do."""


class Patience:
    """Ends so many seconds after the call's last new token, or once the call has lost too many servers since.

    A call may itself be what breaks them: it must not go round and take down one after the other.
    """

    def __init__(self, *, seconds: float, losses: int, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._most_losses = losses
        self._clock = clock
        self.renew()

    def renew(self) -> None:
        """Begin anew: the call has made progress."""
        self._losses = 0
        self._deadline = self._clock() + self.seconds

    @property
    def left(self) -> float:
        """How many seconds are left; at most 0 if none are."""
        return self._deadline - self._clock()

    def meet(self, error: RemoteError) -> None:
        """Take note of a fault, and go on.

        Raises:
            RemoteError: the fault, if it is the call's own, or one too many.
        """
        if not error.transient:
            raise error
        if error.status not in BUSY:
            self._losses += 1
        if self._losses > self._most_losses:
            raise error
