"""One replica of a pool as this process knows it: its load and its circuit breaker. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agentkit.errors import RemoteError
from agentkit.inference.patience import BUSY
from agentkit.inference.remote import RemoteEngine
from agentkit.inference.remote_server import ModelServer

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""How many seconds a replica is left alone after its first fault; each further one in a row doubles it up to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """What a pool says of a replica. `in_flight` counts this process's calls, `faults` those since the last success.

    `retry_in` is how many seconds it gets no calls because of a fault, or because it said that it is busy.
    """

    url: str
    in_flight: int
    draining: bool
    faults: int
    retry_in: float


@dataclass(slots=True, kw_only=True)
class Replica:
    """A server and its state: its breaker is open until `resting_until`."""

    url: str
    engine: RemoteEngine
    health: ModelServer
    clock: Callable[[], float]
    in_flight: int = 0
    draining: bool = False
    faults: int = 0
    resting_until: float = field(default=float("-inf"))
    failed_at: float = field(default=float("-inf"))
    heard_at: float = field(default=float("-inf"))

    @property
    def resting(self) -> float:
        """How many seconds it is left alone from now on; 0 where it may be called."""
        return max(0.0, self.resting_until - self.clock())

    def silent_for(self) -> float:
        """How many seconds ago it last answered."""
        return self.clock() - self.heard_at

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Count a call while the block runs, and note how it ended."""
        began = self.clock()
        self.in_flight += 1
        try:
            yield
        except RemoteError as error:
            if error.status in BUSY:
                self.refused(error.retry_after)
            elif error.transient:
                self.failed(began=began)
            raise
        else:
            self.answered()
        finally:
            self.in_flight -= 1

    def answered(self) -> None:
        """It did what a call asked: the breaker closes."""
        self.faults = 0
        self.heard()

    def heard(self) -> None:
        """It gave a sign of life."""
        self.heard_at = self.clock()

    def failed(self, *, began: float) -> None:
        """It is broken or cannot be reached: the breaker opens, for longer each time.

        Calls that began before the last fault were lost with it: a hundred of them are one fault.
        """
        if began <= self.failed_at:
            return
        self.failed_at = self.clock()
        self._rest(min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.faults))
        self.faults += 1

    def refused(self, seconds: float | None) -> None:
        """It is healthy and has too much to do: others go first for as long as it asked, or for a first pause."""
        self.heard()
        self._rest(FIRST_PAUSE if seconds is None else min(seconds, LONGEST_PAUSE))

    def state(self) -> str:
        """Return in a few words why it gets no calls, or that it may."""
        if self.faults:
            return f"{self.faults} faults in a row"
        return "busy" if self.resting else "well"

    def status(self) -> ReplicaStatus:
        """Return its state for people."""
        return ReplicaStatus(
            url=self.url,
            in_flight=self.in_flight,
            draining=self.draining,
            faults=self.faults,
            retry_in=self.resting,
        )

    def _rest(self, seconds: float) -> None:
        self.resting_until = max(self.resting_until, self.clock() + seconds)
