"""One SQLite file that is ours: opened and checked, one transaction at a time, foreign errors translated.

Knows that there is a schema, not what the rows mean.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

from anyio import CapacityLimiter, from_thread, move_on_after, sleep, to_thread

from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory.sqlite_backup import copy_database
from agentkit.memory.sqlite_errors import primary_code, translated
from agentkit.memory.sqlite_schema import APPLICATION_ID, SCHEMA_VERSION, migrate

T = TypeVar("T")

_Mode = Literal["DEFERRED", "IMMEDIATE"]

_SECONDS_BETWEEN_TRIES: Final = 0.01


class SQLiteFile:
    """A file with our schema. The first transaction opens it, makes it where there is none, or migrates it.

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
        # Whoever used the file before may have died between deleting something and emptying the log.
        self._log_unclean = True
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

    async def erase(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `write`; what `work` deleted is gone from the file's bytes too, and from those of its log.

        Where another process reads the file for longer than `busy_timeout`, the log is emptied by a later
        write or when the file is closed.

        Raises:
            StoreError: as `read`.
        """

        def marked(connection: sqlite3.Connection) -> T:
            self._log_unclean = True
            return work(connection)

        result = await self.write(marked)
        with move_on_after(self._busy_timeout):
            while self._log_unclean and not self._closed:
                await sleep(_SECONDS_BETWEEN_TRIES)
                await to_thread.run_sync(self._try_to_empty_log, limiter=self._limiter)
        return result

    async def backup(self, target: str | os.PathLike[str]) -> None:
        """Copy the file as it is now to a new one, while others read and write.

        Raises:
            StoreError: as `read`, if the target exists or cannot be written.
        """
        await self.read(lambda _: None)  # it is ours, and of this version
        await to_thread.run_sync(self._backup, Path(target))

    async def close(self) -> None:
        """Close the file once the transaction in progress is done."""
        await to_thread.run_sync(self._close, limiter=self._limiter)

    def _transact(self, mode: _Mode, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._translated():
            connection = self._opened()
            with _transaction(connection, mode):
                result = work(connection)
            if self._log_unclean and mode == "IMMEDIATE":
                self._log_unclean = not _empty_log(connection)
            return result

    def _try_to_empty_log(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._log_unclean = not _empty_log(self._connection)

    def _backup(self, path: Path) -> None:
        target = path.absolute()
        with translated(f"backup {target} of store {self.path}", busy_timeout=self._busy_timeout):
            copy_database(self.path, target, check_cancelled=from_thread.check_cancelled)

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"store {self.path} is closed")
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _close(self) -> None:
        with self._lock, self._translated():
            self._closed = True
            if self._connection is not None:
                _empty_log(self._connection)
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
            version = self._version(connection)
        if version == 0:
            self._use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if version < SCHEMA_VERSION:
            with _transaction(connection, "IMMEDIATE"):
                # Another process may have done it meanwhile.
                migrate(connection, self._version(connection))
        connection.execute("PRAGMA foreign_keys = ON")

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of our schema that the file has; 0 means that it is blank. Needs a transaction."""
        application_id = _number(connection, "PRAGMA application_id")
        version = _number(connection, "PRAGMA user_version")
        if application_id == APPLICATION_ID and 1 <= version <= SCHEMA_VERSION:
            return version
        if application_id == APPLICATION_ID:
            raise StoreError(
                f"store {self.path} has format version {version}, this agentkit reads versions 1 to "
                f"{SCHEMA_VERSION}; use the agentkit that wrote it or name another file"
            )
        if application_id or version or _number(connection, "SELECT count(*) FROM sqlite_master"):
            raise StoreError(f"{self.path} is a SQLite file of another application; name another file")
        return 0

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait for other processes when it changes the journal mode.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as exc:
                if primary_code(exc) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_SECONDS_BETWEEN_TRIES)
            else:
                return

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"store {self.path}", busy_timeout=self._busy_timeout)


@contextmanager
def _transaction(connection: sqlite3.Connection, mode: _Mode) -> Iterator[None]:
    connection.execute(f"BEGIN {mode}")
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Move what the log holds into the file and cut the log to nothing; return whether nobody was in the way.

    Waits for nobody and never raises: the transaction before it has happened.
    """
    timeout = _number(connection, "PRAGMA busy_timeout")
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        return not _number(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout}")
