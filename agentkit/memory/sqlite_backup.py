"""A copy of a SQLite file in use: whole, of one moment, under its name only once it is complete."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from agentkit.errors import StoreError

_PAGES_PER_STEP: Final = 256
"""One MiB between two looks at whether to go on."""


def copy_database(source: Path, target: Path, *, check_cancelled: Callable[[], None]) -> None:
    """Copy the last committed state; others read and write the source meanwhile, in WAL mode without waiting.

    Raises:
        StoreError: if the target exists.
        sqlite3.Error, OSError: if the source cannot be read or the target not be written.
    """
    if os.path.lexists(target):
        raise _exists(target)
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:200]}-")
    os.close(descriptor)
    try:
        with closing(sqlite3.connect(source, isolation_level=None)) as read:
            # One transaction keeps the state: without it every write of another would begin the copy anew.
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master")
            with closing(sqlite3.connect(partial)) as written:
                read.backup(written, pages=_PAGES_PER_STEP, progress=lambda *_: check_cancelled())
        _give_name(partial, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _give_name(partial: str, target: Path) -> None:
    """Name a complete file, never another one's name: a link, unlike a move, takes no name that is taken."""
    try:
        os.link(partial, target)
    except FileExistsError as exc:
        raise _exists(target) from exc
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _exists(target: Path) -> StoreError:
    return StoreError(f"backup {target} exists; name a new file")
