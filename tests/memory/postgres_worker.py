"""A worker process that holds a session and commits turns to it until it is killed or its input ends.

`python -m tests.memory.postgres_worker URL SCHEMA SESSION` prints `held` or `busy`, then the number of each turn
once it is committed.
"""

from __future__ import annotations

import sys

import anyio

from agentkit.errors import SessionBusyError
from agentkit.memory.postgres import PostgresStore
from agentkit.testing.store_samples import HEADER, journal_of, turn_of


async def main(url: str, schema: str, session_id: str) -> None:
    store = PostgresStore(url, schema=schema)
    try:
        async with store.hold(session_id):
            print("held", flush=True)
            await commit_turns(store, session_id)
    except SessionBusyError:
        print("busy", flush=True)
    finally:
        await store.close()


async def commit_turns(store: PostgresStore, session_id: str) -> None:
    stored = await store.load(session_id)
    version = stored.version if stored else 0
    number = stored.entries[-1].turn if stored and stored.entries else 0
    while True:
        number += 1
        records, entries = (await journal_of(number))[:1], await turn_of(number)
        version = await store.append(session_id, expected_version=version, header=HEADER, records=records)
        version = await store.commit(session_id, expected_version=version, header=HEADER, entries=entries)
        print(number, flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
