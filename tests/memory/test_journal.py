"""Journal records between memory and a store's rows: what comes back is what was written, or an error."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import StoreError
from agentkit.memory.journal import (
    ApprovalAsked,
    ApprovalGiven,
    CallIntended,
    DecisionMade,
    JournalRecord,
    JournalRow,
    decode_journal,
    encode_journal,
)
from agentkit.testing.store_samples import as_stored_records, journal_of


def row(kind: str, body: bytes) -> JournalRow:
    """A row whose checksum fits, whatever it says."""
    return JournalRow(
        kind=kind, body=body, checksum=zlib.crc32(body, zlib.crc32(f"{kind} {len(body)} ".encode()))
    )


async def test_records_come_back_as_they_were():
    records = await journal_of(1)
    rows = encode_journal(records)
    assert [one.kind for one in rows] == [type(record).__name__ for record in records]
    assert all(row(one.kind, one.body) == one for one in rows)
    assert decode_journal(rows, session_id="s") == as_stored_records(records)


@given(
    st.one_of(
        st.builds(
            CallIntended, call_id=st.text(), tool=st.text(), digest=st.text(), idempotency_key=st.text()
        ),
        st.builds(ApprovalAsked, call_id=st.text(), digest=st.text(), reason=st.text()),
        st.builds(ApprovalGiven, call_id=st.text(), digest=st.text(), approved=st.booleans()),
    )
)
def test_any_text_comes_back(record: JournalRecord):
    assert decode_journal(encode_journal([record]), session_id="s") == (record,)


@given(st.data())
def test_a_row_that_changed_anywhere_is_damaged(data: st.DataObject):
    (one,) = encode_journal([ApprovalGiven(call_id="call_1", digest="d1", approved=False)])
    position = data.draw(st.integers(0, len(one.body) - 1))
    changed = bytearray(one.body)
    changed[position] ^= data.draw(st.integers(1, 255))
    for damaged in (
        replace(one, body=bytes(changed)),
        replace(one, body=one.body[:position]),
        replace(one, body=one.body + b" "),
        replace(one, kind="ApprovalAsked"),
        replace(one, checksum=one.checksum ^ 1),
    ):
        with pytest.raises(
            StoreError, match=r"journal record 1 of session 's' is damaged: .*; restore a backup"
        ):
            decode_journal([one, damaged], session_id="s")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Teleported", b"{}"),
        ("", b"{}"),
        ("ApprovalGiven", b"{}"),
        ("ApprovalGiven", b"[]"),
        ("ApprovalGiven", b"null"),
        ("ApprovalGiven", b"not json"),
        ("ApprovalGiven", b"\xff\xff"),
        (
            "ApprovalGiven",
            json.dumps({"call_id": "1", "digest": "d", "approved": True, "by": "eve"}).encode(),
        ),
        ("StepGenerated", b'{"entry":{"entry":{}},"withheld":[],"corrections":[],"usage":{}}'),
        ("CallFinished", b'{"entry":{"entry":null},"call_id":"1","status":"ok","blocked":false}'),
    ],
)
def test_a_record_of_an_unknown_kind_or_form_is_an_error_and_not_skipped(kind: str, body: bytes):
    with pytest.raises(
        StoreError, match="journal record 0 of session 's' cannot be read; restore a backup or delete"
    ):
        decode_journal([row(kind, body)], session_id="s")


def test_only_what_json_can_say_is_written():
    cycle: dict[str, object] = {}
    cycle["self"] = cycle
    for decision in ({"what": object()}, {"what": {1, 2}}, cycle):
        with pytest.raises(
            StoreError, match="a journal record of kind DecisionMade cannot be written as JSON"
        ):
            encode_journal([DecisionMade(decision=decision)])
