"""An audit log in a file, for those who keep no database: one record a line, each chained to the one before.

Any number of processes may write one file: each record is written under the system's lock, after whatever is the last
one then. Knows no shield and no session.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from agentkit.errors import StoreError
from agentkit.memory.audit import AuditEvent, AuditRecord, next_record, verify_chain

_TENANT: Final = ""  # one chain for all that a file holds; whose a record is stands in its session_id
_CHUNK: Final = 65_536


def append_to_file(path: Path, event: AuditEvent, *, session_id: str) -> AuditRecord:
    """Put an event at the end of a file's chain, and on the disk; the file is made where there is none.

    Raises:
        StoreError: if the file cannot be written, or its last record cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            last = _last_record(file, path)
            details = json.loads(json.dumps(dict(event.details)))
            record = next_record(
                last,
                AuditEvent(kind=event.kind, details=details),
                tenant=_TENANT,
                session_id=session_id,
                now=datetime.now(UTC),
            )
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(asdict(record)).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise StoreError(f"the audit log {path} cannot be written: {exc.strerror}") from exc
    return record


def read_audit_file(path: Path) -> tuple[AuditRecord, ...]:
    """Return the records of a file whose chain is whole.

    Raises:
        StoreError: if it cannot be read, or naming the first record that is not what was written.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as exc:
        raise StoreError(f"the audit log {path} cannot be read: {exc.strerror}") from exc
    if lines.pop() != b"":
        raise StoreError(f"the last line of the audit log {path} is not whole: its writer was interrupted")
    records = tuple(_record(line, number, path) for number, line in enumerate(lines, start=1))
    try:
        verify_chain(records, tenant=_TENANT)
    except StoreError as exc:
        raise StoreError(f"{path}: {exc}") from exc
    return records


def _last_record(file: BinaryIO, path: Path) -> AuditRecord | None:
    """Return the last whole record; what a dying writer left of a line was never acknowledged, and goes."""
    end = file.seek(0, os.SEEK_END)
    tail, start = b"", end
    while start > 0 and tail.count(b"\n") < 2:
        start = max(0, start - _CHUNK)
        file.seek(start)
        tail = file.read(end - start)
    whole, _, torn = tail.rpartition(b"\n")
    if torn:
        file.truncate(end - len(torn))
    return _record(whole.rpartition(b"\n")[2], None, path) if whole else None


def _record(line: bytes, number: int | None, path: Path) -> AuditRecord:
    try:
        return AuditRecord(**json.loads(line))
    except (ValueError, TypeError) as exc:
        which = "the last record" if number is None else f"record {number}"
        raise StoreError(f"{which} of the audit log {path} cannot be read: it was changed") from exc
