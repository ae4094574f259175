"""The audit logs of tenants in a SQLite file. Knows rows; `audit` knows what makes them a chain."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Final

from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.audit_log import columns_of, following, record_of
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
    last = record_of(*row) if row else None
    record = following(last, event, session_id=session_id, now=datetime.now(UTC))
    connection.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*columns_of(record),),
    )


def read_audit(connection: sqlite3.Connection, tenant: str) -> tuple[AuditRecord, ...]:
    """Return a tenant's log, oldest first.

    Raises:
        StoreError: if a record cannot be read.
    """
    rows = connection.execute(_READ + "ORDER BY sequence", (tenant,)).fetchall()
    return tuple(record_of(*row) for row in rows)
