"""`agentkit run` and `agentkit chat` on the embedded model: real turns, kept short."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentkit import SQLiteStore
from tests.cli.driving import INJECTION, Cli, Outcome

pytestmark = pytest.mark.model

BRIEF = ("-p", "shields.yaml", "-i", "Answer with one word.")


def test_run_prints_the_answer(cli: Cli) -> None:
    outcome = cli("run", "-", *BRIEF, "--max-tokens", "4", stdin="Say hi.")
    assert outcome.code == 0
    assert outcome.out.strip()
    assert outcome.err == "agentkit: the answer was cut at 4 tokens; see --max-tokens\n"


def test_run_in_json_has_stable_fields(cli: Cli) -> None:
    outcome = cli("run", "Say hi.", *BRIEF, "--max-tokens", "4", "--json")
    result = outcome.json
    assert list(result) == [
        "status", "output", "limit", "truncated", "messages", "decisions", "approvals", "usage",
    ]  # fmt: skip
    assert (result["status"], result["truncated"], result["usage"]["output_tokens"]) == ("completed", True, 4)
    assert [message["role"] for message in result["messages"]] == ["user", "assistant"]
    assert [decision["stage"] for decision in result["decisions"]] == ["user_input", "model_output"]


def test_a_blocked_run_exits_1_without_an_answer(cli: Cli) -> None:
    outcome = cli("run", INJECTION, *BRIEF, "--json")
    assert outcome.code == 1
    assert outcome.err == "agentkit: blocked at stage user_input by shield injection, override\n"
    assert (outcome.json["status"], outcome.json["output"]) == ("blocked", None)


def test_a_tool_whose_description_is_blocked_exits_1(cli: Cli, folder: Path) -> None:
    tools = (folder / "cli_test_tools.py").read_text()
    (folder / "cli_test_bad_tools.py").write_text(tools.replace("Send a mail.", f"{INJECTION}."))
    outcome = cli("run", "hi", *BRIEF, "-t", "cli_test_bad_tools:send_mail")
    assert outcome.code == 1
    assert outcome.err.startswith(
        "agentkit: the description of tool send_mail was blocked by shield injection"
    )


def _chat(cli: Cli, *lines: str, options: tuple[str, ...] = ()) -> Outcome:
    return cli("chat", *BRIEF, *options, stdin="".join(f"{line}\n" for line in lines))


def test_chat_answers_and_shows_what_a_turn_cost(cli: Cli) -> None:
    outcome = _chat(cli, "Say hi.", "", "/quit", "never read")
    assert (outcome.code, outcome.err) == (0, "")
    first, answer, cost, end = outcome.out.splitlines()
    assert first.startswith("nothing is kept; /new")
    assert len(answer) > len("you ")
    assert "% of " in cost
    assert "input tokens from the cache; shields " in cost
    assert end == "you you "


def test_chat_blocks_and_goes_on(cli: Cli) -> None:
    outcome = _chat(cli, INJECTION, "/nwe", "/new")
    assert outcome.code == 0
    assert "block at user_input by injection, override\n" in outcome.out
    assert "there is no command /nwe; /new begins a new session" in outcome.out
    assert "you new session\n" in outcome.out


def test_a_named_session_goes_on_in_the_next_chat(cli: Cli, folder: Path) -> None:
    kept = ("-s", "alice/1", "--store", "sqlite:///chat.db")
    first = _chat(cli, "Say hi.", options=kept)
    second = _chat(cli, options=kept)  # stdin ends at once, as with Ctrl-D
    assert first.out.startswith("new session alice/1; ")
    assert second.out.startswith("session alice/1, 1 turn so far; ")

    async def stored() -> list[str]:
        store = SQLiteStore(folder / "chat.db")
        sessions = await store.list()
        await store.close()
        return [session.id for session in sessions]

    assert asyncio.run(stored()) == ["alice/1"]
