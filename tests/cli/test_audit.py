"""`agentkit audit verify` and `replay`."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from agentkit.memory.audit import AuditEvent
from agentkit.memory.audit_file import append_to_file
from tests.agent.support import call, policy, scripted
from tests.agent.test_audit_file import look_up
from tests.cli.driving import INJECTION, POLICY, Cli


@pytest.fixture
def log(folder: Path) -> Path:
    for number in range(2):
        append_to_file(
            folder / "audit.jsonl", AuditEvent(kind="decision", details={"n": number}), session_id="a"
        )
    return folder / "audit.jsonl"


@pytest.fixture
def export(folder: Path) -> Path:
    async def talk() -> dict[str, object]:
        agent, _ = scripted(call("look_up", topic=INJECTION), "Here it is.", tools=[look_up], under=policy())
        async with agent:
            session = agent.session("alice/42")
            await session.run("What is it?")
            return await session.export()

    (folder / "session.json").write_text(json.dumps(anyio.run(talk)))
    return folder / "session.json"


def test_a_whole_log_says_its_last_digest(cli: Cli, log: Path) -> None:
    digest = json.loads(log.read_text().splitlines()[-1])["digest"]
    outcome = cli("audit", "verify", "audit.jsonl")
    assert (outcome.code, outcome.out) == (
        0,
        f"audit.jsonl: 2 records, the chain is whole, its last digest is {digest}\n",
    )
    as_json = cli("audit", "verify", "audit.jsonl", "--json", "--last", digest)
    assert as_json.json == {"file": "audit.jsonl", "records": 2, "whole": True, "last_digest": digest}


def test_a_changed_log_exits_1(cli: Cli, log: Path) -> None:
    log.write_text(log.read_text().replace('"n": 0', '"n": 5'))
    outcome = cli("audit", "verify", "audit.jsonl")
    assert (outcome.code, outcome.out) == (1, "")
    assert "the audit chain of tenant '' is broken at record 1" in outcome.err


def test_a_log_whose_end_was_cut_lacks_a_digest_that_was_noted(cli: Cli, log: Path) -> None:
    first, last = log.read_text().splitlines()
    log.write_text(first + "\n")
    assert cli("audit", "verify", "audit.jsonl").code == 0
    outcome = cli("audit", "verify", "audit.jsonl", "--last", json.loads(last)["digest"])
    assert (outcome.code, "its end was cut off" in outcome.err) == (1, True)


def test_a_session_is_judged_again_under_a_new_policy(cli: Cli, export: Path) -> None:
    outcome = cli("audit", "replay", "session.json", "-p", "shields.yaml")
    assert outcome.code == 1
    change, total = outcome.out.splitlines()
    assert "  tool_result: kept -> withhold (injection, " in change
    assert change.startswith("turn 1  ")
    assert total == "4 texts judged again, 1 would change"
    assert INJECTION not in outcome.out


def test_two_policies_are_compared_on_a_session(cli: Cli, export: Path, folder: Path) -> None:
    (folder / "milder.yaml").write_text(POLICY.replace("on_hit: withhold", "on_hit: annotate"))
    rows = cli("audit", "replay", "session.json", "-p", "milder.yaml", "--old", "shields.yaml", "--json").rows
    assert [(row["stage"], row["before"], row["action"], row["changed"]) for row in rows] == [
        ("user_input", "allow", "allow", False),
        ("tool_call", "allow", "allow", False),
        ("tool_result", "withhold", "annotate", True),
        ("model_output", "allow", "allow", False),
    ]
    same = cli("audit", "replay", "session.json", "-p", "shields.yaml", "--old", "shields.yaml")
    assert (same.code, same.out) == (0, "4 texts judged again, 0 would change\n")
