"""An audit log in a file: every decision of a run, chained, without content; nothing passes that is not recorded."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AuditFile, tool
from agentkit.errors import StoreError
from agentkit.memory.audit import AuditEvent
from agentkit.memory.audit_file import append_to_file, read_audit_file
from agentkit.shields import Shield, ShieldInput, Stage, Verdict
from agentkit.testing import FailingShield, StaticShield
from tests.agent.support import call, policy_of, scripted

CANARY = "xyzzy"


@tool(effect="read")
def look_up(topic: str) -> str:
    """Look a topic up."""
    return f"All about {topic}."


def events(path: Path) -> list[dict[str, Any]]:
    return [dict(record.details) for record in read_audit_file(path)]


def canary(stage: Stage) -> StaticShield:
    return StaticShield(
        flagged=lambda content: CANARY in content.text and content.stage is stage, category="c"
    )


async def run(path: Path | AuditFile, text: str = "Find xyzzy", **rules: str) -> Agent:
    shield = canary(Stage.TOOL_RESULT) if rules else None
    agent, _ = scripted(
        call("look_up", topic=CANARY),
        "Done.",
        tools=[look_up],
        under=policy_of(rules),
        shield=shield,
        audit=path,
    )
    async with agent:
        await agent.run(text)
    return agent


async def test_every_decision_is_a_chained_line_without_content(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    agent = await run(path, tool_result="withhold")
    found = events(path)
    assert list(dict.fromkeys(event["stage"] for event in found)) == [
        "tool_description", "user_input", "tool_call", "tool_result", "model_output",
    ]  # fmt: skip
    (withheld,) = [event for event in found if event["action"] == "withhold"]
    assert (withheld["origin"], withheld["source"], withheld["trusted"]) == ("tool", "look_up", False)
    (outcome,) = withheld["outcomes"]
    assert (outcome["shield"], outcome["status"], outcome["category"]) == ("canary", "hit", "c")
    assert {"score", "threshold", "milliseconds"} <= set(outcome)
    assert {event["policy_digest"] for event in found} == {agent._setup.policy.digest}
    assert CANARY not in path.read_text()


async def test_content_is_kept_only_where_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    await run(AuditFile(path, content=True))
    assert [event["text"] for event in events(path)][1] == "Find xyzzy"


class NothingToJudge(StaticShield):
    """Finds nothing in any content that it could judge."""

    async def check(self, content: ShieldInput) -> Verdict:
        return Verdict(flagged=False, judged=False, reason="language not analysed: cobol")


@pytest.mark.parametrize(
    ("shield", "status"),
    [
        (StaticShield(), "pass"),
        (StaticShield(flagged=True, category="c"), "hit"),
        (FailingShield(), "error"),
        (FailingShield(seconds=9), "timeout"),
        (NothingToJudge(), "skipped"),
    ],
)
async def test_every_outcome_is_recorded_with_all_its_fields(
    tmp_path: Path, shield: Shield, status: str
) -> None:
    path = tmp_path / "audit.jsonl"
    agent, _ = scripted("Hello.", under=policy_of({"user_input": "block"}), shield=shield, audit=path)
    async with agent:
        result = await agent.run("Hi")
    assert (result.status == "completed") is (status in ("pass", "skipped"))
    event = events(path)[0]
    assert {"policy_digest", "stage", "content_digest", "action", "origin", "trusted"} <= set(event)
    assert list(event["outcomes"][0]) == [
        "shield", "status", "action", "score", "threshold", "category", "reason", "milliseconds", "shadow",
    ]  # fmt: skip
    assert event["outcomes"][0]["status"] == status


async def test_what_cannot_be_recorded_goes_nowhere(tmp_path: Path) -> None:
    agent, engine = scripted("Hello.", audit=tmp_path / "no-such-folder" / "audit.jsonl")
    with pytest.raises(StoreError, match=r"audit.jsonl cannot be written: No such file or directory"):
        async with agent:
            await agent.run("Hi")
    assert engine.prompts == []


def event(number: int) -> AuditEvent:
    return AuditEvent(kind="decision", details={"number": number})


def test_processes_and_threads_can_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_to_file(path, event(number), session_id="a"), range(40)))
    assert sorted(one["number"] for one in events(path)) == list(range(40))


def test_a_record_longer_than_a_read_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in range(3):
        long = AuditEvent(kind="decision", details={"number": number, "text": "x" * 150_000})
        append_to_file(path, long, session_id="a")
    assert len(events(path)) == 3


def test_a_line_that_a_dying_writer_left_is_dropped_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append_to_file(path, event(1), session_id="a")
    with path.open("a") as file:
        file.write('{"tenant": "", "seq')
    with pytest.raises(StoreError, match=r"the last line of the audit log .* is not whole"):
        read_audit_file(path)
    append_to_file(path, event(2), session_id="a")
    assert [one["number"] for one in events(path)] == [1, 2]


def changed(lines: list[str]) -> list[str]:
    record = json.loads(lines[1])
    record["details"]["number"] = 7
    return [lines[0], json.dumps(record), lines[2]]


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [
        (changed, "broken at record 2"),
        (lambda lines: [lines[0], lines[2]], "broken at record 2"),
        (lambda lines: [lines[1], lines[0], lines[2]], "broken at record 1"),
        (lambda lines: [lines[0], "{}", lines[2]], "record 2 of the audit log .* was changed"),
    ],
)
def test_a_changed_file_is_found_out(tmp_path: Path, tamper: Any, broken: str) -> None:
    path = tmp_path / "audit.jsonl"
    for number in range(3):
        append_to_file(path, event(number), session_id="a")
    path.write_text("\n".join(tamper(path.read_text().splitlines())) + "\n")
    with pytest.raises(StoreError, match=broken):
        read_audit_file(path)
