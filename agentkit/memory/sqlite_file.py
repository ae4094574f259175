"""One SQLite file that is ours: opened and checked, one transaction at a time, foreign errors translated.

Knows the schema, not what the rows mean.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

from anyio import CapacityLimiter, to_thread

from agentkit.errors import ConfigurationError, StoreError

T = TypeVar("T")

APPLICATION_ID: Final = 0x61676E74
"""What marks a SQLite file as a store of agentkit: "agnt" in ASCII."""

SCHEMA_VERSION: Final = 1

_SCHEMA: Final = (
    "CREATE TABLE versions (last INTEGER NOT NULL)",
    "INSERT INTO versions (last) VALUES (0)",
    """CREATE TABLE sessions (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, header TEXT NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL
    )""",
    """CREATE TABLE entries (
        session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE, position INTEGER NOT NULL,
        turn INTEGER NOT NULL, generated INTEGER NOT NULL, message BLOB NOT NULL, ids BLOB NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (session, position)
    )""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

_ADVICE: Final = {
    sqlite3.SQLITE_CORRUPT: "is corrupt; restore a backup, or move the file away to begin a new one",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database, or corrupt; name another file or restore a backup",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; it and its folder must be readable and writable",
    sqlite3.SQLITE_READONLY: "is read-only; it and its folder must be writable",
    sqlite3.SQLITE_PERM: "may not be accessed; check its permissions",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check its disk",
}


class SQLiteFile:
    """A file with our schema. It is opened, and made where there is none, by the first transaction.

    Raises:
        ConfigurationError: if `busy_timeout` is negative.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float) -> None:
        if not busy_timeout >= 0:
            raise ConfigurationError(f"busy_timeout must be at least 0 seconds, got {busy_timeout!r}")
        self.path = Path(path).absolute()
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        # The limiter makes tasks wait without a thread. The lock is for a task that was cancelled from
        # outside anyio: it leaves the limiter while its transaction still runs to its end in the thread.
        self._limiter = CapacityLimiter(1)
        self._lock = threading.Lock()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a worker thread on one consistent state of the file.

        Raises:
            StoreError: if the file is locked, corrupt, foreign, of another version, or closed.
        """
        return await to_thread.run_sync(self._transact, "DEFERRED", work, limiter=self._limiter)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a worker thread as one transaction: all of it, or nothing where it raises.

        Raises:
            StoreError: as `read`.
        """
        return await to_thread.run_sync(self._transact, "IMMEDIATE", work, limiter=self._limiter)

    async def close(self) -> None:
        """Close the file once the transaction in progress is done."""
        await to_thread.run_sync(self._close, limiter=self._limiter)

    def _transact(self, mode: Literal["DEFERRED", "IMMEDIATE"], work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._translated():
            if self._closed:
                raise StoreError(f"store {self.path} is closed")
            if self._connection is None:
                self._connection = self._open()
            with _transaction(self._connection, mode):
                return work(self._connection)

    def _close(self) -> None:
        with self._lock, self._translated():
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            raise StoreError(f"store {self.path}: there is no folder {self.path.parent}; create it first")
        if self.path.is_dir():
            raise StoreError(f"store {self.path} is a folder; name a file")
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection, "DEFERRED"):
            ours = self._is_ours(connection)
        if not ours:
            self._use_wal(connection)
            with _transaction(connection, "IMMEDIATE"):
                # Another process may have made it meanwhile.
                if not self._is_ours(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file has our schema; False means that it is blank. Needs a transaction."""
        application_id = _number(connection, "PRAGMA application_id")
        version = _number(connection, "PRAGMA user_version")
        if application_id == APPLICATION_ID and version == SCHEMA_VERSION:
            return True
        if application_id == APPLICATION_ID:
            raise StoreError(
                f"store {self.path} has format version {version}, this agentkit reads version "
                f"{SCHEMA_VERSION}; use the agentkit that wrote it or name another file"
            )
        if application_id or version or _number(connection, "SELECT count(*) FROM sqlite_master"):
            raise StoreError(f"{self.path} is a SQLite file of another application; name another file")
        return False

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait for other processes when it changes the journal mode.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as exc:
                if _code(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StoreError(f"store {self.path} {self._advice(exc)}") from exc
        except OSError as exc:
            raise StoreError(
                f"store {self.path} cannot be opened: {exc.strerror}; name another file"
            ) from exc

    def _advice(self, exc: sqlite3.Error) -> str:
        code = _code(exc)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return (
                f"is locked by another process (waited {self._busy_timeout:g} s); try again when it is done"
            )
        return _ADVICE.get(code, f"failed: {getattr(exc, 'sqlite_errorname', type(exc).__name__)}")


@contextmanager
def _transaction(connection: sqlite3.Connection, mode: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[None]:
    connection.execute(f"BEGIN {mode}")
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _code(exc: sqlite3.Error) -> int:
    """Return the primary result code; extended codes keep it in their low byte."""
    return getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
