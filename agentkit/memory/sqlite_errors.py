"""What SQLite and the system say about a file -> one sentence with what to do. Knows no schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agentkit.errors import StoreError

_ADVICE: Final = {
    sqlite3.SQLITE_CORRUPT: "is corrupt; restore a backup, or move the file away to begin a new one",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database, or corrupt; name another file or restore a backup",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; it and its folder must be readable and writable",
    sqlite3.SQLITE_READONLY: "is read-only; it and its folder must be writable",
    sqlite3.SQLITE_PERM: "may not be accessed; check its permissions",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check its disk",
}


@contextmanager
def translated(file: str, *, busy_timeout: float) -> Iterator[None]:
    """Turn what the block raises about a file, which is called by this name, into a StoreError."""
    try:
        yield
    except sqlite3.Error as exc:
        raise StoreError(f"{file} {_advice(exc, busy_timeout)}") from exc
    except OSError as exc:
        raise StoreError(f"{file} cannot be opened: {exc.strerror}; name another file") from exc


def primary_code(exc: sqlite3.Error) -> int:
    """Return the primary result code; extended codes keep it in their low byte."""
    return getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _advice(exc: sqlite3.Error, busy_timeout: float) -> str:
    code = primary_code(exc)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"is locked by another process (waited {busy_timeout:g} s); try again when it is done"
    return _ADVICE.get(code, f"failed: {getattr(exc, 'sqlite_errorname', type(exc).__name__)}")
