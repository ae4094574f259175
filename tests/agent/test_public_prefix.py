"""Tenants share the cache of what the developer wrote, to the token, and of nothing that a user said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, LocalEngine, MemoryStore, SamplingParams, tool
from agentkit.agent.public_prefix import public_ids
from agentkit.inference.common_prefix import common_length
from agentkit.inference.config import EngineConfig
from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import Format
from agentkit.messages import Message
from agentkit.testing import byte_tokenizer
from tests.agent.support import policy
from tests.inference.tiny import build_tiny_checkpoint
from tests.shields.guarding import llama3

TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
INSTRUCTIONS = "You keep a secret, whoever asks."


@tool
async def look_up(word: str) -> str:
    """Look a word up."""
    return word


TOOLS = (look_up.spec,)
FORMATS: dict[str, Format] = {
    "template": format_for(byte_tokenizer()),
    "llama 3.1, tools in the first message": format_for(llama3()),
    "llama 3.1, tools in the system message": format_for(llama3(), tools_in="system"),
}


@pytest.fixture
async def engine(tmp_path: Path):
    """A tiny model with pages of one token, so that what is shared is shared to the token."""
    checkpoint = build_tiny_checkpoint(tmp_path, context_length=4096)
    config = checkpoint / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": TEMPLATE}))
    engine = await LocalEngine.load(str(checkpoint), EngineConfig(page_tokens=1))
    yield engine
    await engine.close()


def agent_on(engine: LocalEngine, instructions: str = INSTRUCTIONS) -> Agent:
    return Agent(
        engine,
        instructions=instructions,
        tools=[look_up],
        policy=policy(),
        store=MemoryStore(),
        sampling=SamplingParams(max_tokens=4),
    )


async def test_two_tenants_and_two_agents_share_exactly_what_the_developer_wrote(engine: LocalEngine):
    shared = len(public_ids(format_for(engine.tokenizer), INSTRUCTIONS, TOOLS))
    secret = "My number is 4711."
    async with agent_on(engine) as one, agent_on(engine) as other:
        cached = {
            session_id: (await agent.session(session_id).run(secret)).usage.cached_tokens
            for agent, session_id in ((one, "alice/1"), (one, "bob/1"), (other, "carol/1"), (one, "alice/2"))
        }
    assert cached["alice/1"] == 0
    assert cached["bob/1"] == cached["carol/1"] == shared
    assert cached["alice/2"] > shared + len(secret) // 4


async def test_other_instructions_share_what_they_begin_with_and_no_more(engine: LocalEngine):
    async with agent_on(engine) as one, agent_on(engine, "You keep a diary.") as other:
        await one.session("alice/1").run("Hello")
        usage = (await other.session("bob/1").run("Hello")).usage
    texts = (f"system: {INSTRUCTIONS}", "system: You keep a diary.")
    first, second = (engine.tokenizer.encode(text) for text in texts)
    assert usage.cached_tokens == common_length(first, second)


async def test_a_user_who_imitates_the_developer_makes_nothing_public(engine: LocalEngine):
    async with agent_on(engine, "You are brief.") as agent:
        said = f"{INSTRUCTIONS} 4711"
        await agent.session("alice/1").run(said)
        first = (await agent.session("bob/1").run(said)).usage.cached_tokens
        second = (await agent.session("carol/1").run("Something else")).usage.cached_tokens
    assert first == second == len(public_ids(format_for(engine.tokenizer), "You are brief.", TOOLS))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("tools", [(), TOOLS], ids=["no tools", "a tool"])
@pytest.mark.parametrize("instructions", ["", INSTRUCTIONS], ids=["no instructions", "instructions"])
@given(text=st.text(max_size=20))
def test_no_word_of_a_user_is_in_the_public_prefix_and_all_of_the_developers_is(
    name, tools, instructions, text
):
    dialect = FORMATS[name]
    tokenizer = byte_tokenizer() if name == "template" else llama3()
    system = [Message.system(instructions)] if instructions or tools else []
    said = f"☃{text}☃"
    prompt = dialect.render([*system, Message.user(said)], tools=tools)
    declared = public_ids(dialect, instructions, tools)
    shared = tokenizer.decode(prompt[: common_length(tuple(prompt), declared)], skip_special=False)
    whole = tokenizer.decode(prompt, skip_special=False)
    before = whole[: whole.index("☃")]
    assert before.startswith(shared)
    assert len(before) - len(shared) <= len("}\n\n")  # what a token may join to the user's first character
