"""Writes down what the current turn does: at once where the next step depends on it, else with the next record.

Also gives the turn its ids. Knows no shield and no tool.
"""

from __future__ import annotations

import hashlib
from secrets import randbits, token_hex

from agentkit.agent.history import SessionHistory
from agentkit.memory.journal import JournalRecord

_SEED_BITS = 63


class Logbook:
    """The journal of one turn.

    `turn_key` begins the ids of the turn's messages, calls and decisions; `seed` is what its draws follow from.
    A turn that is resumed has the key and the seed that it began with, so it gives the same ids and draws again.
    """

    def __init__(self, history: SessionHistory, *, seed: int | None) -> None:
        self._history = history
        self._pending: list[JournalRecord] = []
        self._open = False
        open_turn = history.open_turn
        self._num_decisions = len(open_turn.decisions) if open_turn else 0
        self.turn_key = open_turn.accepted.turn_key if open_turn else token_hex(6)
        self.seed = open_turn.accepted.seed if open_turn else randbits(_SEED_BITS) if seed is None else seed

    def note(self, record: JournalRecord) -> None:
        """Keep a record until the next one is written: it alone says nothing that may not be lost."""
        self._pending.append(record)

    async def write(self, *records: JournalRecord) -> None:
        """Write records, behind those that wait; they are on the disk when this returns.

        Raises:
            SessionBusyError: if somebody else wrote the session.
            StoreError: if the store cannot be written.
        """
        pending = [*self._pending, *records]
        if pending:
            await self._history.append(pending)
            self._pending.clear()

    def decision_id(self) -> str:
        """Return an id for the next decision."""
        self._num_decisions += 1
        return f"{self.turn_key}.d{self._num_decisions}"

    def call_id(self, step: int, index: int) -> str:
        """Return the id of a call of a step."""
        digest = hashlib.sha256(f"{self.turn_key}/{step}/{index}".encode()).hexdigest()
        return f"call_{digest[:12]}"

    def step_seed(self, step: int) -> int:
        """Return what the draws of a step follow from."""
        return (self.seed + step) % (1 << _SEED_BITS)
