"""Whoever changes, drops, moves or adds a record of a chain is found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agentkit.errors import StoreError
from agentkit.memory import AuditEvent, AuditRecord, verify_chain
from agentkit.memory.audit import GENESIS, next_record

NOW = datetime(2026, 7, 26, 12, tzinfo=UTC)
Records = Sequence[AuditRecord]


def chain(length: int, *, tenant: str = "alice") -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for number in range(length):
        event = AuditEvent(kind="turn", details={"turn": number, "stages": ["user_input"]})
        last = records[-1] if records else None
        records.append(next_record(last, event, tenant=tenant, session_id=f"{tenant}/1", now=NOW))
    return records


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_chain_as_it_was_written_is_accepted(length: int):
    records = chain(length)
    verify_chain(records, tenant="alice")
    assert [record.sequence for record in records] == list(range(1, length + 1))
    assert [record.previous for record in records] == [GENESIS, *(record.digest for record in records)][
        :length
    ]


@pytest.mark.parametrize(
    ("tamper", "broken_at"),
    [
        (lambda records: [replace(records[0], kind="other"), *records[1:]], 1),
        (lambda records: [*records[:2], replace(records[2], details={"turn": 7}), *records[3:]], 3),
        (lambda records: [*records[:2], replace(records[2], session_id="alice/2"), *records[3:]], 3),
        (lambda records: [*records[:2], replace(records[2], time="2026-07-27"), *records[3:]], 3),
        (lambda records: [*records[:2], replace(records[2], digest=GENESIS), *records[3:]], 3),
        (lambda records: records[1:], 1),
        (lambda records: [records[0], *records[2:]], 2),
        (lambda records: [records[1], records[0], *records[2:]], 1),
        (lambda records: [*records[:2], records[1], *records[2:]], 3),
        (lambda records: [*records, chain(6, tenant="bob")[5]], 6),
    ],
    ids=["kind", "details", "session", "time", "digest", "first gone", "gone", "moved", "twice", "another's"],
)
def test_a_chain_that_was_changed_is_broken_where_it_was(
    tamper: Callable[[Records], Records], broken_at: int
):
    with pytest.raises(StoreError, match=f"chain of tenant 'alice' is broken at record {broken_at}:"):
        verify_chain(tamper(chain(5)), tenant="alice")


def test_a_chain_is_one_tenant_s():
    with pytest.raises(StoreError, match="chain of tenant 'bob' is broken at record 1"):
        verify_chain(chain(1), tenant="bob")


def test_a_record_s_time_keeps_its_microseconds():
    east = timezone(timedelta(hours=2))
    record = next_record(None, AuditEvent(kind="turn"), tenant="", session_id="s", now=NOW.astimezone(east))
    assert datetime.fromisoformat(record.time) == NOW
    assert record.time.endswith("14:00:00.000000+02:00")
