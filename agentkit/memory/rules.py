"""The rules that every store applies, with the sentences it refuses in. Knows no store."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Final

from agentkit.errors import ConfigurationError, SessionBusyError, StoreError

MAX_SESSION_ID_LENGTH: Final = 200
_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._:@/-]")


def check_session_id(session_id: str) -> None:
    """Accept 1 to 200 of the characters that a session id may have.

    Raises:
        ConfigurationError: otherwise.
    """
    if not session_id:
        raise ConfigurationError("a session id must not be empty")
    check_prefix(session_id)


def check_prefix(prefix: str) -> None:
    """Accept what a session id may start with, the empty prefix included.

    Raises:
        ConfigurationError: otherwise.
    """
    if len(prefix) > MAX_SESSION_ID_LENGTH:
        raise ConfigurationError(
            f"a session id has at most {MAX_SESSION_ID_LENGTH} characters, got {len(prefix)}"
        )
    if forbidden := _FORBIDDEN.search(prefix):
        raise ConfigurationError(
            f"a session id has only letters, digits and . _ : @ / -, "
            f"got {forbidden.group()!r} at position {forbidden.start()}"
        )


def tenant_of(session_id: str) -> str:
    """Return whom a session belongs to: the part of its id before the last slash, "" where there is none."""
    return session_id.rpartition("/")[0]


def check_same_tenant(session_id: str, fork_id: str) -> None:
    """Accept a fork that stays with its tenant.

    Raises:
        ConfigurationError: otherwise.
    """
    tenant, other = tenant_of(session_id), tenant_of(fork_id)
    if tenant != other:
        raise ConfigurationError(
            f"a fork stays with its tenant {tenant!r}, {fork_id!r} is of tenant {other!r}; "
            "export the session and import it there"
        )


def check_turn(session_id: str, turn: int, *, turns: Iterable[int]) -> None:
    """Accept one of the turns that a session's context holds; 0, the time before the first, is always one.

    Raises:
        ConfigurationError: otherwise.
    """
    known = {0, *turns}
    if turn not in known:
        raise ConfigurationError(
            f"session {session_id!r} has no turn {turn} in its context; it has {min(known)} to {max(known)}"
        )


def check_version(session_id: str, version: int, *, expected: int) -> None:
    """Accept a commit by somebody who saw the last version; a session that does not exist has version 0.

    Raises:
        SessionBusyError: otherwise.
    """
    if version != expected:
        raise SessionBusyError(
            f"session {session_id!r} is at version {version}, this run began at version {expected}: "
            "another run changed it; load it again"
        )


def kept_entries(session_id: str, num_entries: int, *, replace_from: int | None) -> int:
    """Return how many stored entries a commit keeps.

    Raises:
        StoreError: if it would replace from beyond the last one.
    """
    if replace_from is None:
        return num_entries
    if not 0 <= replace_from <= num_entries:
        raise StoreError(
            f"session {session_id!r} has {num_entries} entries, cannot replace from {replace_from}"
        )
    return replace_from


def forked_entries(source_id: str, available: int, *, wanted: int | None) -> int:
    """Return how many entries a fork begins with.

    Raises:
        StoreError: if its source has fewer.
    """
    if wanted is None:
        return available
    if not 0 <= wanted <= available:
        raise StoreError(f"session {source_id!r} has {available} entries, cannot fork {wanted}")
    return wanted


def busy(session_id: str) -> SessionBusyError:
    """Return the error for a session that somebody holds."""
    return SessionBusyError(
        f"session {session_id!r} is in use by another run, here or in another process; "
        "wait for it, or fork the session"
    )


def check_fork(source_id: str, target_id: str, *, existing: Container[str]) -> None:
    """Accept a fork of a session that exists to one that does not.

    Raises:
        StoreError: otherwise.
    """
    if source_id not in existing:
        raise StoreError(f"there is no session {source_id!r} to fork")
    if target_id in existing:
        raise StoreError(f"session {target_id!r} exists; fork to another id or delete it")
