"""Wrong usage: one line on stderr that says what to do, exit code 2, and nothing on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentkit.cli.app import STAGES
from agentkit.shields.base import Stage
from tests.cli.driving import Cli

COMMANDS = ("demo", "chat", "run", "scan", "prompt", "parse", "models", "doctor", "policy", "sessions")
OF_POLICY = ("check", "explain", "test")
OF_SESSIONS = (
    "list", "show", "resume", "approve", "deny", "abandon", "fork", "rollback", "export", "import", "delete",
    "prune", "audit", "backup",
)  # fmt: skip

WRONG = {
    "scna": "no such command 'scna'; did you mean 'scan'? See `agentkit --help`",
    "policy": "missing command; see `agentkit policy --help`",
    "policy chekc": "no such command 'chekc'; did you mean 'check'? See `agentkit policy --help`",
    "policy check": "missing argument 'FILE'; see `agentkit policy check --help`",
    "scan": "missing option '--stage'; see `agentkit scan --help`",
    "scan --stag x": "no such option: --stag; did you mean '--stage'? See `agentkit scan --help`",
    "scan --stage user_inptu": "there is no stage 'user_inptu'; did you mean 'user_input'?",
    "scan --stage zzz": f"there is no stage 'zzz'; valid: {STAGES}",
    "scan --stage code -p shield.yaml": ("there is no policy file shield.yaml; did you mean 'shields.yaml'?"),
    "scan --stage code -p no/x.yaml": "there is no policy file no/x.yaml: there is no folder no",
    "scan --stage code -p .": ". is a folder; name a policy file in it",
    "scan --stage code -p mistyped.yaml": (
        "mistyped.yaml:9: unknown key 'on_hitt' in stages.tool_result[0]; did you mean 'on_hit'?"
    ),
    "scan --stage code -p foreign.yaml --import cli_test_shield": (
        "--import 'cli_test_shield': there is no module 'cli_test_shield'; did you mean 'cli_test_shields'?"
    ),
    "scan --stage code --import cli_test_broken": (
        "--import 'cli_test_broken': importing cli_test_broken failed: ValueError: no"
    ),
    "scan --stage code -p shields.yaml": "stdin is empty; pipe the text to judge into the command",
    "scan --stage code -p shields.yaml --jsonl": (
        'stdin has no rows; pipe JSON lines with "text" into the command'
    ),
    "run": "missing argument 'PROMPT'; see `agentkit run --help`",
    "run a b": "got unexpected extra argument(s) (b); see `agentkit run --help`",
    "run hi --max-tokens 0": (
        "invalid value for '--max-tokens': it must be greater than or equal to 1; see `agentkit run --help`"
    ),
    "run hi --max-tokens x": (
        "invalid value for '--max-tokens': it must be a valid integer; see `agentkit run --help`"
    ),
    "run - -p shields.yaml": "the prompt is empty; say something to the model",
    "run hi -p shields.yaml -m smollm2-135m-instrct": (
        "unknown model 'smollm2-135m-instrct'; did you mean 'smollm2-135m-instruct'? A model is a catalogue name "
        "(`agentkit models` lists them), a folder, a .gguf file or a hub id such as owner/name"
    ),
    "run hi -p shields.yaml -m ./nowhere": (
        "no model at nowhere: name a folder that holds a model, or a .gguf file"
    ),
    "run hi -t cli_test_tools": (
        "--tool 'cli_test_tools' must be module:object, for instance examples.weather:get_current_temperature"
    ),
    "run hi -t cli_test_tool:plain": (
        "--tool 'cli_test_tool:plain': there is no module 'cli_test_tool'; did you mean 'cli_test_tools'?"
    ),
    "run hi -t cli_test_tools:current_temprature": (
        "--tool 'cli_test_tools:current_temprature': cli_test_tools has no tool 'current_temprature'; "
        "did you mean 'current_temperature'?"
    ),
    "run hi -t cli_test_tools:zzz": (
        "--tool 'cli_test_tools:zzz': cli_test_tools has no tool 'zzz'; "
        "its tools are current_temperature, send_mail"
    ),
    "run hi -t cli_test_tools:plain": (
        "--tool 'cli_test_tools:plain': plain is a plain function; write @tool above it"
    ),
    "chat -p shields.yaml -s ab!": (
        "a session id has only letters, digits and . _ : @ / -, got '!' at position 2"
    ),
    "chat -p shields.yaml -s a --store sqlte:///x.db": (
        "store scheme 'sqlte' is unknown, did you mean 'sqlite'?; "
        "write memory:// or sqlite:///relative.db or sqlite:////absolute/path.db or "
        "postgresql://user@host/database"
    ),
    "run hi -s ab!": "a session id has only letters, digits and . _ : @ / -, got '!' at position 2",
    "sessions": "missing command; see `agentkit sessions --help`",
    "sessions lst": "no such command 'lst'; did you mean 'list'? See `agentkit sessions --help`",
    "sessions show": "missing argument 'ID'; see `agentkit sessions show --help`",
    "sessions rollback a -1": "no such option: -1; see `agentkit sessions rollback --help`",
    "sessions prune": "missing option '--older-than'; see `agentkit sessions prune --help`",
    "prompt queston.json": "there is no file queston.json; did you mean 'question.json'?",
    "prompt broken.json": (
        "broken.json is not JSON: expecting property name enclosed in double quotes (column 3)"
    ),
    "prompt empty.json": "empty.json is not JSON: it is empty (column 1)",
    "prompt object.json": "object.json must hold a list of messages, got an object",
    "prompt question.json --tools object.json": "object.json must hold a list of tools, got an object",
    "prompt question.json -d tmplate": (
        "no dialect 'tmplate': there are hf-3.1, hf-3.2, meta, template; did you mean 'template'?"
    ),
    "prompt question.json --builtin-tools brave_serch": (
        "--builtin-tools: there is no built-in tool 'brave_serch'; did you mean 'brave_search'?"
    ),
    "prompt question.json --tool-format xml": (
        "--tool-format must be one of json, function_tag, python_list, builtin, got 'xml'"
    ),
    "prompt question.json -d hf-3.1 --tools-in top": "--tools-in must be one of system, user, got 'top'",
    "prompt question.json --tool-results raw": "--tool-results must be one of verbatim, json, got 'raw'",
    "prompt question.json -d hf-3.2 --builtin-tools brave_search": (
        "dialect hf-3.2 has no built-in tools, so not brave_search; Llama 3.3 takes them in hf-3.1"
    ),
    "parse --builtin-tools brave_serch": (
        "--builtin-tools: there is no built-in tool 'brave_serch'; did you mean 'brave_search'?"
    ),
    "parse -d hf31": "no dialect 'hf31': there are hf-3.1, hf-3.2, meta, template; did you mean 'hf-3.1'?",
    "policy test untested.yaml": "untested.yaml holds no tests; write some under `tests:`",
    "policy test shields.yaml mistyped.yaml": (
        "mistyped.yaml:9: unknown key 'on_hitt' in stages.tool_result[0]; did you mean 'on_hit'?"
    ),
    "doctor -p shield.yaml": "there is no policy file shield.yaml; did you mean 'shields.yaml'?",
}


@pytest.mark.parametrize(("command", "message"), WRONG.items(), ids=WRONG)
def test_wrong_usage_is_one_line_that_says_what_to_do(cli: Cli, command: str, message: str) -> None:
    outcome = cli(*command.split())
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"agentkit: {message}\n")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "stdin holds no messages"),
        (["hi"], 'stdin: message 1 must be an object with "role" and "content"'),
        ([{"role": "usr", "content": ""}], "stdin: message 1 has unknown role 'usr'; did you mean 'user'?"),
        ([{"role": "user"}], 'stdin: message 1 must have a string "content", got none'),
        ([{"role": "user", "content": 1}], 'stdin: message 1 must have a string "content", got a number'),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "[1]"}]}],
            "stdin: message 1: call 1: its arguments must be an object, got a list",
        ),
        (
            [{"role": "assistant", "content": "", "tool_calls": {}}],
            'stdin: message 1: "tool_calls" must be a list, got an object',
        ),
    ],
)
def test_a_conversation_that_is_none_says_which_message(cli: Cli, messages: object, message: str) -> None:
    outcome = cli("prompt", "-", stdin=json.dumps(messages))
    assert (outcome.code, outcome.err) == (2, f"agentkit: {message}\n")


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([1], 'tool 1 must be an object with a "name", "description" and "parameters"'),
        ([{"name": "f", "parameters": []}], 'tool 1: "parameters" must be a JSON Schema object, got a list'),
        ([{"name": "f", "description": 1}], 'tool 1: "description" must be a string, got a number'),
    ],
)
def test_a_tool_that_is_none_says_which(cli: Cli, folder: Path, tools: object, message: str) -> None:
    (folder / "tools.json").write_text(json.dumps(tools))
    outcome = cli("parse", "--tools", "tools.json")
    assert (outcome.code, outcome.err) == (2, f"agentkit: tools.json: {message}\n")


def test_json_nested_without_end_is_an_error_not_a_crash(cli: Cli) -> None:
    outcome = cli("prompt", "-", stdin="[" * 200_000)
    assert (outcome.code, outcome.err) == (2, "agentkit: stdin is nested too deeply\n")


@pytest.mark.parametrize("command", ["scan --stage code", "parse", "run -", "prompt -"])
def test_stdin_that_is_not_utf8_says_where(cli: Cli, command: str) -> None:
    outcome = cli(*command.split(), stdin=b"ab\xff")
    assert (outcome.code, outcome.err) == (2, "agentkit: stdin is not UTF-8 (byte 2); convert it first\n")


@pytest.mark.parametrize(
    "command",
    ["", *COMMANDS, *(f"policy {name}" for name in OF_POLICY), *(f"sessions {name}" for name in OF_SESSIONS)],
)
def test_help_fits_80_columns_and_has_an_example(cli: Cli, command: str) -> None:
    outcome = cli(*command.split(), "--help")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "..." not in outcome.out.replace("[ARGS]...", "").replace("{FILE}...", "")
    if command not in ("", "policy", "sessions"):
        assert f"Example: agentkit {command}" in outcome.out


def test_agentkit_alone_shows_its_commands(cli: Cli) -> None:
    outcome = cli()
    assert outcome.code == 0
    assert all(f"\n  {command} " in outcome.out for command in COMMANDS)


def test_help_names_every_stage() -> None:
    assert STAGES.split(", ") == [stage.value for stage in Stage]
