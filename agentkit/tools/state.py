"""What a tool keeps between the calls of a session, such as a process, and whose it is. Knows no tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, eq=False)
class SessionKey:
    """Names the session that a call belongs to. `place` is where the session is kept: its store.

    Two keys are equal only for one id in one and the same place: the "42" of another store is somebody else.
    """

    session_id: str
    place: object

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionKey):
            return NotImplemented
        return self.session_id == other.session_id and self.place is other.place

    def __hash__(self) -> int:
        return hash((self.session_id, id(self.place)))


class ToolState(Protocol):
    """What a tool keeps for each session. The agent ends it with the session, and all of it with itself."""

    async def end(self, session: SessionKey) -> None:
        """Free what is kept for a session, if anything is. Never raises."""

    async def end_all(self) -> None:
        """Free what is kept for every session. Never raises; the tool can be called again afterwards."""
