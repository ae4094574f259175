"""A session that another process goes on with is warm, and a file that does not fit is never used."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit import Agent, LocalEngine, Session
from agentkit.agent.saved_kv import kv_path
from tests.agent.support import policy, scripted

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct"
TEXT = "Please remember that my favourite colour is a deep forest green, and that I live in Lyon."


def agent_on(engine: LocalEngine, folder: Path) -> Agent:
    return Agent(
        engine,
        instructions="You are a helpful assistant who answers in one sentence.",
        policy=policy(),
        store=f"sqlite:///{folder}/agent.db",
        kv_folder=folder / "kv",
    )


async def first_process(folder: Path, session_id: str = "alice/1") -> int:
    """Run a turn, close the session and return how many tokens it has."""
    engine = await LocalEngine.load(MODEL)
    async with agent_on(engine, folder) as agent, agent.session(session_id) as session:
        result = await session.run(TEXT)
        tokens = result.usage.input_tokens + result.usage.output_tokens
    await engine.close()
    return tokens


async def go_on(folder: Path, session_id: str = "alice/1") -> tuple[int, int]:
    """Run the next turn in a new engine; return its input tokens and how many of them were prefilled."""
    engine = await LocalEngine.load(MODEL)
    async with agent_on(engine, folder) as agent:
        result = await agent.session(session_id).run("Where do I live?")
    await engine.close()
    return result.usage.input_tokens, result.usage.prefilled_tokens


async def test_a_session_that_was_closed_goes_on_warm_in_another_process(tmp_path: Path):
    known = await first_process(tmp_path)
    tokens, prefilled = await go_on(tmp_path)
    assert prefilled <= tokens - known + 4


async def test_a_damaged_file_is_not_used_and_costs_only_time(tmp_path: Path):
    await first_process(tmp_path)
    path = kv_path(tmp_path / "kv", "alice/1")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    tokens, prefilled = await go_on(tmp_path)
    assert 0 < prefilled < tokens  # computed again before the turn, not read


async def test_the_file_of_another_tenant_is_not_used(tmp_path: Path):
    await first_process(tmp_path, "alice/1")
    await first_process(tmp_path, "bob/1")
    kv_path(tmp_path / "kv", "alice/1").replace(kv_path(tmp_path / "kv", "bob/1"))
    engine = await LocalEngine.load(MODEL)
    async with agent_on(engine, tmp_path) as agent:
        await agent.session("bob/1").load()
        path = kv_path(tmp_path / "kv", "bob/1")
        warmth = await engine.warm([1, 2, 3], path, scope="bob")
    await engine.close()
    assert warmth.loaded_tokens == 0
    assert warmth.problem is not None


@pytest.mark.parametrize("forget", ["delete", "rollback"])
async def test_the_file_goes_with_the_content(tmp_path: Path, forget: str):
    await first_process(tmp_path)
    path = kv_path(tmp_path / "kv", "alice/1")
    assert path.exists()
    engine = await LocalEngine.load(MODEL)
    async with agent_on(engine, tmp_path) as agent:
        session: Session = agent.session("alice/1")
        if forget == "delete":
            await session.delete()
        else:
            await session.rollback(0)
    await engine.close()
    assert not path.exists()


async def test_names_do_not_show_in_the_files_names():
    path = kv_path(Path("kv"), "alice/secret-project")
    assert "alice" not in str(path)
    assert "secret" not in str(path)


async def test_an_engine_that_keeps_no_files_is_closed_all_the_same(tmp_path: Path):
    agent, _ = scripted("Hello.", "Again.", kv_folder=tmp_path / "kv")
    async with agent:
        async with agent.session("t/1") as session:
            await session.run("Hi")
        assert (await session.run("Hi again")).output == "Again."
    assert not (tmp_path / "kv").exists()
