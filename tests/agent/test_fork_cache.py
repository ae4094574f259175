"""A fork costs no copy: in the store one more head, in the engine's cache what the branch adds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentkit import Agent, LocalEngine, SQLiteStore
from tests.agent.support import policy

pytestmark = pytest.mark.model

LONG = "Here are my notes. " + " ".join(f"Item {number} is in box {number % 7}." for number in range(120))
BRANCHES = 4


def num_entries(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])


async def test_branches_share_the_pages_and_the_rows_of_what_they_have_in_common(tmp_path: Path):
    engine = await LocalEngine.load("smollm2-135m-instruct")
    store = SQLiteStore(tmp_path / "agent.db")
    agent = Agent(engine, instructions="Answer in one word.", policy=policy(), store=store)
    async with agent:
        session = agent.session("alice/1")
        first = await session.run(LONG)
        page = engine.config.page_tokens
        before = await engine.stats()
        rows = num_entries(tmp_path / "agent.db")
        for number in range(BRANCHES):
            branch = await session.fork(f"alice/branch-{number}")
            result = await branch.run(f"Which box is item {number} in?")
            new_tokens = result.usage.input_tokens - first.usage.input_tokens - first.usage.output_tokens
            assert result.usage.prefilled_tokens <= new_tokens + 1
        after = await engine.stats()
    added = after.cached_tokens - before.cached_tokens
    await engine.close()
    await store.close()
    assert first.usage.input_tokens > 1_000
    # A branch adds its own question and answer, and at most the one page that was not full.
    assert added <= BRANCHES * (new_tokens + result.usage.output_tokens + 2 * page)
    assert num_entries(tmp_path / "agent.db") - rows == 2 * BRANCHES  # a question and an answer each
