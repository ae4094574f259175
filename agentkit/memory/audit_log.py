"""What stores put on a tenant's audit log, in the form that comes back from a database. Knows no store."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from agentkit.errors import StoreError
from agentkit.memory.audit import AuditEvent, AuditRecord, next_record
from agentkit.memory.rules import tenant_of

SESSION_DELETED: Final = AuditEvent(kind="session_deleted")
"""What every store puts on record when it deletes a session."""


def following(last: AuditRecord | None, event: AuditEvent, *, session_id: str, now: datetime) -> AuditRecord:
    """Return the record of an event of a session that follows `last`, None where its tenant has none.

    Its details are as JSON gives them back, so that the digest fits what a store returns: a key is text.

    Raises:
        StoreError: if the details cannot be written as JSON.
    """
    try:
        details = json.loads(json.dumps(dict(event.details)))
    except (TypeError, ValueError, RecursionError) as exc:
        raise StoreError(f"the details of audit event {event.kind} cannot be written as JSON") from exc
    plain = AuditEvent(kind=event.kind, details=details)
    return next_record(last, plain, tenant=tenant_of(session_id), session_id=session_id, now=now)


def columns_of(record: AuditRecord) -> tuple[str | int, ...]:
    """Return a record as a database keeps it, in the order that `record_of` takes."""
    return (
        record.tenant,
        record.sequence,
        record.time,
        record.session_id,
        record.kind,
        json.dumps(record.details),
        record.previous,
        record.digest,
    )


def record_of(
    tenant: str,
    sequence: int,
    time: str,
    session_id: str,
    kind: str,
    details: str,
    previous: str,
    digest: str,
) -> AuditRecord:
    """Return the record that a database kept as these columns.

    Raises:
        StoreError: if its details cannot be read.
    """
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
