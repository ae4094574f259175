"""One holder at a time for a session of a file, among all tasks, stores and processes on this machine.

The lock is the system's on an open file: it ends with its holder, however that dies. No clock, no lease.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentkit.errors import StoreError
from agentkit.memory.rules import busy


@contextmanager
def locked(beside: Path, session_id: str) -> Iterator[None]:
    """Hold a session of the store at `beside` inside the block, by a file next to it that goes with the block.

    Raises:
        SessionBusyError: at once, if somebody holds it.
        StoreError: if the file cannot be made.
    """
    digest = hashlib.sha256(session_id.encode()).hexdigest()[:32]
    path = f"{os.path.realpath(beside)}-{digest}.lock"
    try:
        descriptor = _acquire(path, session_id)
    except OSError as exc:
        raise StoreError(
            f"session {session_id!r} cannot be held: {exc.strerror}; the folder of store {beside} must be writable"
        ) from exc
    try:
        yield
    finally:
        with suppress(OSError):  # left behind, it is only an empty file
            os.unlink(path)
        os.close(descriptor)


def _acquire(path: str, session_id: str) -> int:
    """Return an open file that is locked and has the path's name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            if isinstance(exc, BlockingIOError):
                raise busy(session_id) from exc
            raise
        # A holder may have removed the file between the two calls; then its name is another's.
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
