"""The effects of the load test: a tool that writes a row a call, and what is wrong with the rows in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import psycopg

from agentkit import Tool, current_call, tool
from agentkit.memory import Store

TOOL: Final = "note"

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS effects (
    session text NOT NULL, call text NOT NULL, times integer NOT NULL DEFAULT 1, PRIMARY KEY (session, call)
)
"""
# A second effect of one call does not fail: it is counted, so that it is seen.
_ADD: Final = """
INSERT INTO effects (session, call) VALUES (%s, %s)
ON CONFLICT (session, call) DO UPDATE SET times = effects.times + 1
"""


class Effects:
    """Where the calls of a worker leave their effects: one row for each call, committed before the call returns."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, database: str) -> Self:
        """Connect to a database that `make_table` has prepared."""
        return cls(await psycopg.AsyncConnection.connect(database, autocommit=True))

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    def as_tool(self) -> Tool:
        """Return the tool whose calls have effects."""

        async def note(text: str) -> str:
            """Write a note down.

            Args:
                text: What to write down.
            """
            call = current_call()
            if call.session is None:
                raise ValueError("a note belongs to a session")
            await self._connection.execute(_ADD, (call.session.session_id, call.call_id))
            return "Noted."

        return tool(effect="write", trust="trusted")(note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Calls that the sessions hold as made, those without an effect, and effects that there should not be."""

    calls: int
    lost: int
    doubled: int
    unknown: int


def make_table(database: str) -> None:
    """Make the table that holds the effects."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_TABLE)


async def verdict(database: str, store: Store, sessions: Iterable[str]) -> Verdict:
    """Compare the calls that the stored sessions know with the rows of the table."""
    made: set[tuple[str, str]] = set()
    for name in sessions:
        stored = await store.load(name)
        answered = [entry.message for entry in stored.entries] if stored is not None else []
        made |= {
            (name, message.call_id) for message in answered if message.call_id and message.content == "Noted."
        }
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT session, call, times FROM effects").fetchall()
    effects = Counter({(session, call): times for session, call, times in rows})
    return Verdict(
        calls=len(made),
        lost=len(made - set(effects)),
        doubled=sum(times - 1 for times in effects.values()),
        unknown=len(set(effects) - made),
    )
