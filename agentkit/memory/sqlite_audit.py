"""The audit logs of tenants in a SQLite file. Knows rows; `audit` knows what makes them a chain."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Final

from agentkit.errors import StoreError
from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.audit_log import following
from agentkit.memory.rules import tenant_of

_READ: Final = (
    "SELECT tenant, sequence, time, session_id, kind, details, previous, digest FROM audit WHERE tenant = ? "
)


def append_event(connection: sqlite3.Connection, event: AuditEvent, *, session_id: str) -> None:
    """Put an event of a session at the end of its tenant's log. Needs a transaction that writes.

    Raises:
        StoreError: if the event cannot be written as JSON.
    """
    query = _READ + "ORDER BY sequence DESC LIMIT 1"
    row = connection.execute(query, (tenant_of(session_id),)).fetchone()
    last = _record(*row) if row else None
    record = following(last, event, session_id=session_id, now=datetime.now(UTC))
    connection.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.tenant,
            record.sequence,
            record.time,
            record.session_id,
            record.kind,
            json.dumps(record.details),
            record.previous,
            record.digest,
        ),
    )


def read_audit(connection: sqlite3.Connection, tenant: str) -> tuple[AuditRecord, ...]:
    """Return a tenant's log, oldest first.

    Raises:
        StoreError: if a record cannot be read.
    """
    rows = connection.execute(_READ + "ORDER BY sequence", (tenant,)).fetchall()
    return tuple(_record(*row) for row in rows)


def _record(
    tenant: str,
    sequence: int,
    time: str,
    session_id: str,
    kind: str,
    details: str,
    previous: str,
    digest: str,
) -> AuditRecord:
    try:
        values = dict(json.loads(details))
    except (TypeError, ValueError) as exc:
        raise StoreError(
            f"record {sequence} of the audit log of tenant {tenant!r} cannot be read; restore a backup"
        ) from exc
    return AuditRecord(
        tenant=tenant,
        sequence=sequence,
        time=time,
        session_id=session_id,
        kind=kind,
        details=values,
        previous=previous,
        digest=digest,
    )
