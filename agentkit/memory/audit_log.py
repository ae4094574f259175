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
