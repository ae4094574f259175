"""Sessions that nobody has used for long are deleted. Knows no clock: the caller says since when."""

from __future__ import annotations

from datetime import datetime

from agentkit.errors import ConfigurationError, SessionBusyError
from agentkit.memory.store import SessionInfo, Store


async def prune(store: Store, *, before: datetime, prefix: str = "") -> tuple[str, ...]:
    """Delete the sessions not updated since `before`, and return their ids, sorted.

    Only those whose id starts with the prefix; one tenant's have `tenant/`. A session stays that somebody
    holds, whose last turn has not ended, or that changes meanwhile.

    Raises:
        ConfigurationError: if `before` has no time zone, or no session id starts like that.
        StoreError: if the store cannot be read or written; what was deleted until then stays so.
    """
    old = await prunable(store, before=before, prefix=prefix)
    return tuple([info.id for info in old if await _delete(store, info.id, info.version)])


async def prunable(store: Store, *, before: datetime, prefix: str = "") -> tuple[SessionInfo, ...]:
    """Return what `prune` would delete, were nobody to use it meanwhile.

    Raises:
        ConfigurationError, StoreError: as `prune`.
    """
    if before.utcoffset() is None:
        raise ConfigurationError(
            f"before must have a time zone, got {before.isoformat()}; write datetime.now(UTC) - timedelta(...)"
        )
    sessions = await store.list(prefix)
    return tuple(info for info in sessions if info.updated < before and not info.unfinished)


async def _delete(store: Store, session_id: str, version: int) -> bool:
    try:
        async with store.hold(session_id):
            return await store.delete(session_id, expected_version=version)
    except SessionBusyError:
        return False
