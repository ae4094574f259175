"""Every example runs as its docstring says, on the real model, and shows what it promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest

from agentkit import Policy
from agentkit.cli.loading import load_tools
from tests.tools.sandboxes import needs_bubblewrap

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("[!_]*.py"))
POLICIES = sorted((ROOT / "examples" / "policies").glob("*.yaml"))

Show = Callable[[str], str]


@pytest.fixture(scope="module")
def show() -> Iterator[Show]:
    """What an example prints. Two run at a time, on one thread each."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        running: dict[str, Future[str]] = {name: pool.submit(run_example, name) for name in NAMES}
        yield lambda name: running[name].result()


def run_example(name: str) -> str:
    finished = run_python("-m", f"examples.{name}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.model
def test_weather_calls_the_tool_answers_with_its_result_and_reuses_the_cache(show: Show):
    printed = show("weather")
    called = re.findall(r"call:   get_current_temperature\(\{'location': '([^']+)'\}\)", printed)
    assert called == ["Paris, France", "Lyon, France", "Tokyo, Japan"]
    answers = re.findall(r"answer: (.*)", printed)
    assert [number in answer for number, answer in zip(("22", "24.5", "17"), answers, strict=True)] == [
        True
    ] * 3
    first, *later = [int(share) for share in re.findall(r"(\d+)% were cached", printed)]
    assert first < 60
    assert [share > 85 for share in later] == [True, True]


@pytest.mark.model
def test_remote_engine_runs_on_this_machine_where_no_server_is_named(show: Show):
    printed = show("remote_engine")
    called = re.findall(r"call:   get_current_temperature\(\{'location': '(\w+), France'\}\)", printed)
    assert called == ["Paris", "Lyon"]
    assert re.findall(r"answer: .*?([\d.]+\d)", printed) == ["22.0", "24.5"]


def test_guarded_code_runs_arithmetic_and_blocks_the_rest_before_the_tool(show: Show):
    printed = show("guarded_code")
    assert re.findall(r"status:  (.*)", printed) == ["completed", "blocked"]
    assert "result:  42\nanswer:  It is 42." in printed
    assert re.search(r"blocked: at stage code by shield code: \w", printed)
    assert printed.endswith("The tool saw: ['6 * (3 + 4)']\n")


@pytest.mark.model
def test_sessions_prefill_a_stored_conversation_once_and_then_only_what_is_new(show: Show):
    printed = show("sessions")
    usage = [
        (session, int(prefilled), int(cached))
        for session, prefilled, cached in re.findall(
            r"(alice/\S+) .*prefilled +(\d+), cached +(\d+)", printed
        )
    ]
    assert [session for session, _, _ in usage] == ["alice/42"] * 4 + ["alice/42-b"]
    (_, begun, _), (_, second, _), (_, resumed, nothing), (_, fourth, kept), (_, branched, shared) = usage
    assert nothing == 0
    assert resumed > begun + second
    assert kept >= resumed
    assert shared > kept
    assert max(second, fourth, branched) < 20
    for capital in ("Paris", "Rome", "Tokyo", "Cairo"):
        assert capital in printed
    assert "the fork holds 11 messages, the session still 9" in printed


@pytest.mark.model
def test_custom_shield_redacts_what_it_found_and_blocks_what_the_policy_says(show: Show):
    printed = show("custom_shield")
    assert "model_output: redact, 2 mentions of competitors" in printed
    assert "lighter than those of [REDACTED:competitor] and of [REDACTED:competitor]." in printed
    assert "answer: None (blocked)\n  user_input: block (competitor)" in printed
    assert not [line for line in printed.splitlines() if line.startswith("answer:") and "Globex" in line]


@pytest.mark.model
def test_streaming_shows_every_kind_of_event_in_its_order(show: Show):
    refused, approved, cancelled, blocked = show("streaming").split("\nuser: ")[1:]
    assert "approval  set_heating {'celsius': 40}?" in refused
    assert "started" not in refused
    assert " ".join(kinds(approved)) == "shield shield approval started shield finished shield text end"
    assert "finished  set_heating (ok): The heating is set to 21 degrees." in approved
    assert kinds(cancelled)[-2:] == ["text", "end"]
    assert "end       cancelled\n  new messages in the session: 0" in cancelled
    assert kinds(blocked) == ["shield", "end"]
    assert "shield    user_input: block by injection" in blocked


def test_knowledge_is_found_by_its_tenant_and_poison_is_not_stored(show: Show):
    alice, bob = show("knowledge").split("\nbob/1: ")
    assert "not stored: a document does not pass stage memory (shield injection)" in alice
    assert alice.count("Anna's train arrives on Friday at 18:05.") == 2  # remembered, then read
    assert alice.count("Friends of the house sleep in the blue room.") == 2  # in the context, and by the tool
    assert "reads" not in bob


@needs_bubblewrap
def test_code_interpreter_keeps_variables_returns_a_file_and_is_contained(show: Show):
    printed = show("code_interpreter")
    assert "[stdout][0, 1, 4, 9, 16, 25, 36, 49][/stdout]" in printed
    assert "file:   sum.txt holds '140'" in printed
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/etc/passwd'" in printed
    assert "the code did not end within 2 seconds and was stopped" in printed
    assert (
        "[this is a new session, without earlier variables and files: the call before was stopped]" in printed
    )
    assert "blocked at stage code: CWE-78" in printed


def test_mcp_tools_fail_with_their_server_and_are_refused_once_they_changed(show: Show):
    tools, first, died, changed = show("mcp_tools").split("\n\n")
    assert tools == "tools:   words__count (read)"
    assert "result:  6\n" in first
    assert "result:  Error: MCP server words was lost during the call" in died
    assert "result:  Error: MCP server words describes count differently from when it was approved" in changed


def test_web_search_names_its_sources_and_withholds_a_poisoned_page(show: Show):
    _, found, withheld = show("web_search").split("\nuser:   ")
    assert re.findall(r"Source: (\S+)", found) == ["https://lyon.test", "https://rivers.test"]
    assert "found:  [withheld: " in withheld
    assert "praise" not in withheld


def test_sub_agent_asks_a_person_and_spends_what_is_left_of_the_turn(show: Show):
    _, first, second = show("sub_agent").split("\nuser:    ")
    assert (
        "asked:   file_note({'text': '1888: bridge'}), because untrusted content is in the context" in first
    )
    assert "trusted: False\nanswer:  In 1888, says the clerk. (completed)" in first
    assert "clerk:   Error: clerk did not finish: the limit of steps was reached" in second
    assert "answer:  None (limit_reached, steps)" in second


def kinds(printed: str) -> list[str]:
    return re.findall(r"^  (shield|approval|started|finished|text|end) ", printed, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_how_to_run_it_and_uses_the_public_face_alone(name: str):
    tree = ast.parse((ROOT / "examples" / f"{name}.py").read_text())
    assert f"python -m examples.{name}`" in (ast.get_docstring(tree) or "")
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module for module in modules if module.startswith("agentkit")} <= {"agentkit", "agentkit.testing"}


def test_the_tool_that_the_command_line_help_names_is_there():
    (tool,) = load_tools(["examples.weather:get_current_temperature"])
    assert tool.name == "get_current_temperature"
    assert tool.effect.value == "read"


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_policy_passes_its_own_tests_on_the_command_line(path: Path):
    finished = run_python("-m", "agentkit", "policy", "test", str(path))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    num_tests = len(Policy.load(path).tests)
    assert num_tests > 0
    assert f"{num_tests} passed, 0 failed" in finished.stdout


def test_the_default_policy_of_the_examples_is_the_packaged_one():
    packaged = resources.files("agentkit.shields") / "policies" / "default.yaml"
    assert (ROOT / "examples" / "policies" / "default.yaml").read_text() == packaged.read_text()
