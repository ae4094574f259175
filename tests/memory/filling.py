"""A process that writes to a store until there is no more room, then looks at what is left, and goes on with room.

`python -m tests.memory.filling FOLDER append|commit disk|limit` prints the error, and "whole" and "goes on" where
these hold. The disk is full at its end; the limit is the system's on the size of the process's files.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import anyio

from agentkit.errors import StoreError
from agentkit.memory import SQLiteStore
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns

LIMIT = 300_000


async def main(folder: Path, operation: str, room: str) -> None:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(100_000))
    if room == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    store = SQLiteStore(folder / "agent.db")
    entries, records = await turns(1), await journal_of(1)
    version = written = 0
    try:
        while True:
            version = (
                await store.commit("s", expected_version=version, header=HEADER, entries=entries)
                if operation == "commit"
                else await store.append("s", expected_version=version, header=HEADER, records=records)
            )
            written += 1
    except StoreError as exc:
        print(exc)
    stored = await store.load("s")
    assert stored is not None
    assert stored.version == version
    assert stored.entries == (as_stored(entries * written) if operation == "commit" else ())
    assert stored.journal == (as_stored_records(records * written) if operation == "append" else ())
    print("whole")
    ballast.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.commit("s", expected_version=version, header=HEADER, entries=entries)
    await store.close()
    print("goes on")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3])
