"""A tenant's audit log: a chain of records that holds no content. Knows no store.

Each record's digest covers the one before it, so one that was changed, dropped or moved breaks the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agentkit.errors import StoreError

GENESIS: Final = "0" * 64
"""What the first record of a chain names as its predecessor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something to put on record: `kind` says what happened, `details` are plain JSON values without content."""

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One link of a tenant's chain. `sequence` counts from 1; `time` is in UTC, as ISO 8601."""

    tenant: str
    sequence: int
    time: str
    session_id: str
    kind: str
    details: Mapping[str, Any]
    previous: str
    digest: str


def next_record(
    last: AuditRecord | None, event: AuditEvent, *, tenant: str, session_id: str, now: datetime
) -> AuditRecord:
    """Return the record that follows `last`, None where the chain is empty.

    Raises:
        StoreError: if the details cannot be written as JSON.
    """
    sequence, previous = (last.sequence + 1, last.digest) if last else (1, GENESIS)
    time = now.isoformat(timespec="microseconds")
    digest = _digest(tenant, sequence, time, session_id, event.kind, event.details, previous)
    return AuditRecord(
        tenant=tenant,
        sequence=sequence,
        time=time,
        session_id=session_id,
        kind=event.kind,
        details=dict(event.details),
        previous=previous,
        digest=digest,
    )


def verify_chain(records: Sequence[AuditRecord], *, tenant: str) -> None:
    """Accept a tenant's whole chain.

    Raises:
        StoreError: naming the first record that is not what was written.
    """
    previous = GENESIS
    for sequence, record in enumerate(records, start=1):
        digest = _digest(
            tenant, sequence, record.time, record.session_id, record.kind, record.details, previous
        )
        if (record.tenant, record.sequence, record.previous, record.digest) != (
            tenant,
            sequence,
            previous,
            digest,
        ):
            raise StoreError(
                f"the audit chain of tenant {tenant!r} is broken at record {sequence}: "
                "it was changed, or one before it is missing"
            )
        previous = record.digest


def _digest(
    tenant: str,
    sequence: int,
    time: str,
    session_id: str,
    kind: str,
    details: Mapping[str, Any],
    previous: str,
) -> str:
    try:
        text = json.dumps([tenant, sequence, time, session_id, kind, dict(details), previous], sort_keys=True)
    except (TypeError, ValueError) as exc:
        raise StoreError(f"the details of audit event {kind} cannot be written as JSON") from exc
    return hashlib.sha256(text.encode()).hexdigest()
