"""While a shield that runs a model judges the input, the engine computes the answer; nothing comes of it before."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentkit import (
    Agent,
    Document,
    Finding,
    LocalEngine,
    Origin,
    Policy,
    Provenance,
    RunStatus,
    SamplingParams,
    Shield,
    ShieldInput,
    Verdict,
    tool,
)
from agentkit.agent.events import Event, ShieldDecision
from agentkit.testing import ScriptedEngine, StaticShield
from tests.agent.dictating import DictatedEngine
from tests.agent.support import STAGES, call, policy
from tests.inference.calling import wait_for

CANARY = "xyzzy"
Judging = Callable[[ShieldInput], Awaitable[Verdict]]


class ModelShield:
    """A shield that takes long: what it says is what a function makes of the content."""

    runs_model = True

    def __init__(self, judging: Judging) -> None:
        self._judging = judging

    async def start(self) -> None: ...

    async def check(self, content: ShieldInput) -> Verdict:
        return await self._judging(content)

    async def close(self) -> None: ...


def guarded(
    engine: Any,
    judging: Judging,
    *,
    on_hit: str = "block",
    quick: StaticShield | None = None,
    timeout_ms: int = 30_000,
    **options: Any,
) -> Agent:
    """Return an agent whose input is judged by a quick shield and by one that runs a model."""
    rules = [{"shield": "slow", "on_hit": on_hit}, {"shield": "quick", "on_hit": "block"}]
    document = {
        "version": 1,
        "shields": {"slow": {"use": "instruction_override"}, "quick": {"use": "instruction_override"}},
        "stages": {stage: rules if stage == "user_input" else [] for stage in STAGES},
        "failure": {"timeout_ms": timeout_ms},
    }
    shields: dict[str, Shield] = {"slow": ModelShield(judging), "quick": quick or StaticShield()}
    return Agent(engine, policy=Policy.parse(json.dumps(document)), shields=shields, **options)


def after_the_answer(
    engine: DictatedEngine, *, flagged: bool = False, findings: Sequence[Finding] = ()
) -> Judging:
    """Return a judgement that takes until the engine has nothing left to compute."""

    async def judge(content: ShieldInput) -> Verdict:
        await wait_for(engine.local, lambda stats: stats.active_requests == 0)
        return Verdict(flagged=flagged, findings=tuple(findings))

    return judge


@pytest.fixture
async def engine():
    engine = DictatedEngine()
    yield engine
    await engine.close()


def bytes_in(folder: Path) -> bytes:
    """Return what the files of a store hold."""
    return b"".join(path.read_bytes() for path in folder.glob("agent.db*"))


RUNS: list[str] = []


@tool(effect="read")
def look_up(topic: str) -> str:
    """Look a topic up."""
    RUNS.append(topic)
    return f"All about {topic}."


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


async def test_the_answer_is_computed_meanwhile_and_told_once_the_input_is_cleared(
    engine: DictatedEngine, tmp_path: Path
) -> None:
    engine.replies = ["It is warm.", "It is cold."]
    told: list[Event] = []
    seen: list[tuple[int, list[Event], bytes]] = []

    async def judge(content: ShieldInput) -> Verdict:
        await wait_for(engine.local, lambda stats: stats.active_requests == 0)
        cached = (await engine.local.stats()).cached_tokens
        files = bytes_in(tmp_path)
        seen.append((cached, list(told), files))
        return Verdict(flagged=False)

    agent = guarded(engine, judge, store=f"sqlite:///{tmp_path}/agent.db")
    async with agent, agent.session("t/1").stream("Is it warm?") as run:
        async for event in run:
            told += [event]
    ((cached, told_before, files),) = seen
    assert cached >= len("Is it warm?") + len("It is warm.")
    assert told_before == []
    assert b"Is it warm?" not in files
    assert b"It is warm." not in files
    assert (run.result.output, engine.begun, len(engine.prompts)) == ("It is warm.", 1, 1)
    assert isinstance(told[0], ShieldDecision)


async def test_a_tool_starts_only_then(engine: DictatedEngine) -> None:
    engine.replies = [call("look_up", topic="tea"), "Done."]
    runs_before: list[list[str]] = []

    async def judge(content: ShieldInput) -> Verdict:
        await wait_for(engine.local, lambda stats: stats.active_requests == 0)
        runs_before.append(list(RUNS))
        return Verdict(flagged=False)

    async with guarded(engine, judge, tools=[look_up]) as agent:
        result = await agent.run("Go")
    assert (runs_before, RUNS, result.output) == ([[]], ["tea"], "Done.")


@pytest.mark.parametrize("failure", ["hit", "error", "timeout", "cancelled"])
async def test_on_a_hit_or_a_failure_nothing_of_it_is_left_and_the_session_goes_on(
    engine: DictatedEngine, tmp_path: Path, failure: str
) -> None:
    engine.replies = [f"You said {CANARY}.", "Fine.", "Hello again."]
    fine = after_the_answer(engine)
    bad = after_the_answer(engine, flagged=True)

    async def judge(content: ShieldInput) -> Verdict:
        if CANARY not in content.text:
            return await fine(content)
        verdict = await bad(content)
        assert CANARY in await engine.cached_text()
        match failure:
            case "error":
                raise RuntimeError
            case "timeout":
                await anyio.sleep_forever()
            case "cancelled":
                scope.cancel()
                await anyio.sleep_forever()
        return verdict

    agent = guarded(
        engine,
        judge,
        store=f"sqlite:///{tmp_path}/agent.db",
        timeout_ms=500 if failure == "timeout" else 30_000,
    )
    async with agent:
        session = agent.session("t/1")
        with anyio.CancelScope() as scope:
            result = await session.run(f"Say {CANARY}")
            assert result.status is RunStatus.BLOCKED
        assert CANARY not in await engine.cached_text()
        assert CANARY.encode() not in bytes_in(tmp_path)
        assert (await engine.local.stats()).active_requests == 0
        after = await session.run("Hello")
    assert (after.output, engine.begun) == ("Fine.", 2)
    assert CANARY not in engine.prompts[1]


async def test_what_a_quick_shield_blocks_is_not_even_begun(engine: DictatedEngine) -> None:
    async def judge(content: ShieldInput) -> Verdict:
        return Verdict(flagged=False)

    engine.replies = ["Hello."]
    async with guarded(engine, judge, quick=StaticShield(flagged=True)) as agent:
        result = await agent.run("Hi")
    assert result.status is RunStatus.BLOCKED
    assert {outcome.shield for outcome in result.decisions[-1].outcomes} == {"slow", "quick"}
    assert (engine.begun, engine.prompts) == (0, [])


async def test_an_input_that_is_redacted_is_answered_as_redacted(engine: DictatedEngine) -> None:
    async def judge(content: ShieldInput) -> Verdict:
        found = [
            Finding(start=one.start(), end=one.end(), label="word")
            for one in re.finditer(CANARY, content.text)
        ]
        return await after_the_answer(engine, flagged=bool(found), findings=found)(content)

    engine.replies = [f"You said {CANARY}.", "You said something."]
    async with guarded(engine, judge, on_hit="redact") as agent:
        result = await agent.run(f"Say {CANARY}")
        assert CANARY not in await engine.cached_text()
    assert result.output == "You said something."
    assert (engine.begun, len(engine.prompts)) == (1, 2)
    assert CANARY not in engine.prompts[1]


async def test_an_engine_elsewhere_gets_nothing_before_the_input_is_cleared() -> None:
    remote = ScriptedEngine(["Hello."])
    prompts_before: list[list[str]] = []

    async def judge(content: ShieldInput) -> Verdict:
        await anyio.sleep(0.05)
        prompts_before.append(list(remote.prompts))
        return Verdict(flagged=False)

    async with guarded(remote, judge) as agent:
        assert (await agent.run("Hi")).output == "Hello."
    assert prompts_before == [[]]


async def test_where_notes_will_stand_behind_the_input_nothing_is_begun(
    engine: DictatedEngine, tmp_path: Path
) -> None:
    engine.replies = ["On Friday."]
    agent = guarded(
        engine, after_the_answer(engine), knowledge=f"sqlite:///{tmp_path}/knowledge.db", knowledge_passages=1
    )
    async with agent:
        note = Document(text="Anna comes on Friday.", provenance=Provenance(origin=Origin.USER, source="me"))
        await agent.add_document(note)
        result = await agent.run("When does Anna come?")
    assert (result.output, engine.begun) == ("On Friday.", 0)
    assert "Anna comes on Friday." in engine.prompts[0]


async def test_what_other_turns_have_in_the_cache_stays_there(engine: DictatedEngine) -> None:
    async def judge(content: ShieldInput) -> Verdict:
        return await after_the_answer(engine, flagged=CANARY in content.text)(content)

    engine.replies = ["Tea is fine.", "No.", "Tea again."]
    async with guarded(engine, judge, instructions="You are a test.") as agent:
        await agent.session("t/1").run("Say tea is fine")
        await agent.session("t/2").run(f"Say tea is {CANARY}")
        again = await agent.session("t/3").run("Say tea is fine")
    assert again.usage.prefilled_tokens == 1


@pytest.mark.model
async def test_on_the_embedded_model_the_answer_is_what_it_would_have_been() -> None:
    engine = await LocalEngine.load("smollm2-135m-instruct")

    async def judge(content: ShieldInput) -> Verdict:
        await wait_for(engine, lambda stats: stats.active_requests == 0)
        judged.append((await engine.stats()).cached_tokens)
        return Verdict(flagged=False)

    judged: list[int] = []
    sampling = SamplingParams(max_tokens=12, temperature=0.8, seed=7)
    agents = [guarded(engine, judge, sampling=sampling), Agent(engine, policy=policy(), sampling=sampling)]
    results = []
    for number, agent in enumerate(agents):
        async with agent:
            results.append(await agent.session(f"tenant-{number}/1").run("What is the capital of France?"))
    await engine.close()
    ahead, after = results
    assert judged[0] >= ahead.usage.input_tokens
    assert ahead.output == after.output
    assert ahead.usage.output_tokens == after.usage.output_tokens
