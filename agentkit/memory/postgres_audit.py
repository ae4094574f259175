"""The audit logs of tenants in PostgreSQL. Knows rows; `audit` knows what makes them a chain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.audit_log import columns_of, following, record_of
from agentkit.memory.postgres_database import Transaction
from agentkit.memory.rules import tenant_of

_READ: Final = """
SELECT tenant, sequence, time, session_id, kind, details, previous, digest FROM audit
WHERE tenant = %s ORDER BY sequence
"""

_LAST: Final = """
SELECT tenant, sequence, time, session_id, kind, details, previous, digest FROM audit
WHERE tenant = %s ORDER BY sequence DESC LIMIT 1
"""

_INSERT: Final = """
INSERT INTO audit (tenant, sequence, time, session_id, kind, details, previous, digest, token)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


async def append_event(transaction: Transaction, event: AuditEvent, *, session_id: str) -> None:
    """Put an event of a session at the end of its tenant's log, once in all attempts at a write.

    Comes last in a transaction: until that ends, the tenant's other events wait.

    Raises:
        StoreError: if the event cannot be written as JSON.
    """
    tenant = tenant_of(session_id)
    await transaction.lock("audit", tenant)
    if await was_noted(transaction, session_id=session_id):
        return
    row = await (await transaction.execute(_LAST, (tenant,))).fetchone()
    last = record_of(*row) if row else None
    record = following(last, event, session_id=session_id, now=datetime.now(UTC))
    values = (
        *columns_of(record),
        transaction.token,
    )
    await transaction.execute(_INSERT, values)


async def was_noted(transaction: Transaction, *, session_id: str) -> bool:
    """Tell whether an earlier attempt at this very write put its event on the tenant's log."""
    if not transaction.again:
        return False
    query = "SELECT EXISTS (SELECT FROM audit WHERE tenant = %s AND token = %s)"
    found = await transaction.execute(query, (tenant_of(session_id), transaction.token))
    return await found.fetchone() == (True,)


async def read_audit(transaction: Transaction, tenant: str) -> tuple[AuditRecord, ...]:
    """Return a tenant's log, oldest first.

    Raises:
        StoreError: if a record cannot be read.
    """
    rows = await (await transaction.execute(_READ, (tenant,))).fetchall()
    return tuple(record_of(*row) for row in rows)
