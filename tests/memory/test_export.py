"""A session as JSON: what is written is read back, under another id if one is wanted, and its journal stays behind."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agentkit.errors import ConfigurationError
from agentkit.memory import StoredSession
from agentkit.memory.export import session_from_json, session_to_json
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns


async def stored() -> StoredSession:
    return StoredSession(
        id="alice/1",
        version=7,
        header=HEADER,
        entries=as_stored(await turns(1, 2)),
        journal=as_stored_records(await journal_of(3)),
    )


@pytest.mark.parametrize("session_id", [None, "bob/2"])
async def test_what_is_written_is_read_back_without_the_unfinished_turn(session_id: str | None):
    session = await stored()
    written = json.loads(json.dumps(session_to_json(session)))
    read = session_from_json(written, session_id=session_id)
    assert read == replace(session, id=session_id or "alice/1", version=0, journal=())


@pytest.mark.parametrize("ids", [[-1], [2**31], [1.5], ["1"], [True], None])
async def test_an_id_that_is_none_is_refused_without_its_content(ids: object):
    written = session_to_json(await stored())
    written["entries"][0]["ids"] = ids
    with pytest.raises(
        ConfigurationError, match=r"the exported session cannot be read: \w+; export it again"
    ):
        session_from_json(written)
