"""Sessions that nobody has used for long are deleted. Knows no clock: the caller says since when."""

from __future__ import annotations

from datetime import datetime

from agentkit.errors import ConfigurationError, SessionBusyError
from agentkit.memory.store import Store


async def prune(store: Store, *, before: datetime, prefix: str = "") -> tuple[str, ...]:
    """Delete the sessions not updated since `before`, and return their ids, sorted.

    Only those whose id starts with the prefix; one tenant's have `tenant/`. A session stays that somebody
    holds, whose last turn has not ended, or that changes meanwhile.

    Raises:
        ConfigurationError: if `before` has no time zone, or no session id starts like that.
        StoreError: if the store cannot be read or written; what was deleted until then stays so.
    """
    if before.utcoffset() is None:
        raise ConfigurationError(
            f"before must have a time zone, got {before.isoformat()}; write datetime.now(UTC) - timedelta(...)"
        )
    deleted = []
    for info in await store.list(prefix):
        old = info.updated < before and not info.unfinished
        if old and await _delete(store, info.id, info.version):
            deleted.append(info.id)
    return tuple(deleted)


async def _delete(store: Store, session_id: str, version: int) -> bool:
    try:
        async with store.hold(session_id):
            return await store.delete(session_id, expected_version=version)
    except SessionBusyError:
        return False
