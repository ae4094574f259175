"""`code_interpreter` in an agent: judged, approved, one sandbox a session, none left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping

from agentkit import Agent, ApprovalDecision, ApprovalRequest, MemoryStore, RunStatus, code_interpreter
from agentkit.inference.formats.calls import CODE_TOOL
from agentkit.testing import ScriptedEngine
from tests.tools.sandboxes import left_in, needs_bubblewrap, sandboxed_processes, small_limits

pytestmark = needs_bubblewrap


def script(code: str, answer: str = "Done.") -> ScriptedEngine:
    return ScriptedEngine([json.dumps({"name": CODE_TOOL, "parameters": {"code": code}}), answer])


async def approve(request: ApprovalRequest) -> ApprovalDecision:
    return ApprovalDecision.APPROVE


async def test_dangerous_code_is_blocked_before_a_sandbox_starts():
    asked: list[Mapping[str, object]] = []

    async def ask(request: ApprovalRequest) -> bool:
        asked.append(request.arguments)
        return True

    tool = code_interpreter(limits=small_limits())
    engine = script("import os\nos.system(input())")
    async with Agent(engine, tools=[tool], approver=ask) as agent:
        result = await agent.run("Tidy up.")
        inside = sandboxed_processes()
    assert result.status is RunStatus.BLOCKED
    assert result.blocked_by is not None
    assert result.blocked_by.stage.value == "code"
    assert (inside, asked) == ({}, [])


async def test_the_default_policy_asks_a_person_and_without_one_refuses():
    tool = code_interpreter(limits=small_limits())
    async with Agent(script("1 + 1"), tools=[tool]) as agent:
        result = await agent.run("Add.")
        inside = sandboxed_processes()
    assert result.status is RunStatus.COMPLETED
    assert inside == {}


async def test_an_agents_session_keeps_its_variables_and_its_end_is_theirs():
    replies = [
        *(json.dumps({"name": CODE_TOOL, "parameters": {"code": "kept = 20"}}), "One."),
        *(json.dumps({"name": CODE_TOOL, "parameters": {"code": "kept + 1"}}), "Two."),
        *(json.dumps({"name": CODE_TOOL, "parameters": {"code": "kept"}}), "Three."),
    ]
    tool = code_interpreter(limits=small_limits())
    store = MemoryStore()
    async with Agent(ScriptedEngine(replies), tools=[tool], approver=approve, store=store) as agent:
        await agent.session("alice/42").run("Keep 20.")
        second = await agent.session("alice/42").run("Add 1.")
        namespaces = set(sandboxed_processes().values())
        await agent.session("alice/42").close()
        left = left_in(namespaces)
        third = await agent.session("alice/42").run("Show it.")
        at_the_end = set(sandboxed_processes().values())
    assert second.messages[2].content == "completed\n[stdout]21[/stdout]"
    assert not second.messages[2].provenance.trusted
    assert (len(namespaces), left) == (1, [])
    assert "NameError" in third.messages[2].content
    assert len(at_the_end) == 1
    assert left_in(at_the_end) == []  # the agent was closed


async def test_a_run_without_a_session_leaves_no_sandbox():
    tool = code_interpreter(limits=small_limits())
    async with Agent(script("1 + 1"), tools=[tool], approver=approve) as agent:
        result = await agent.run("Add.")
        inside = sandboxed_processes()
    assert "[stdout]2[/stdout]" in result.messages[2].content
    assert inside == {}
