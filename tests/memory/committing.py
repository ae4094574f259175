"""A process that journals and commits turns until it has the last one or is killed.

`python -m tests.memory.committing FILE SESSION LAST` prints the number of each turn once it is committed.
"""

from __future__ import annotations

import sys

import anyio

from agentkit.memory import SQLiteStore
from agentkit.testing.store_samples import HEADER, journal_of, turn_of


async def main(path: str, session_id: str, last: int) -> None:
    store = SQLiteStore(path)
    stored = await store.load(session_id)
    version = stored.version if stored else 0
    done = stored.entries[-1].turn if stored and stored.entries else 0
    for number in range(done + 1, last + 1):
        entries, records = await turn_of(number), await journal_of(number)
        for record in records[:2]:
            version = await store.append(
                session_id, expected_version=version, header=HEADER, records=[record]
            )
        version = await store.commit(session_id, expected_version=version, header=HEADER, entries=entries)
        print(number, flush=True)
    await store.close()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
