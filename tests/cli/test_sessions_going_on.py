"""Turns that wait or were interrupted, gone on with: on a tiny model, and once on the embedded one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.driving import INJECTION, POLICY, Cli, Outcome
from tests.cli.kept_sessions import KeptSessions
from tests.cli.terminal import AGENTKIT, SECONDS
from tests.inference.tiny import TINY_CONTEXT, build_tiny_checkpoint
from tests.postgres_server import PostgresServer

TINY = ("-m", "./tiny")
SETUP = ("-p", "shields.yaml", "-t", "cli_test_tools:send_mail")
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def tiny(folder: Path) -> None:
    """A model in the folder that loads at once and writes nonsense."""
    checkpoint = build_tiny_checkpoint(folder / "tiny", context_length=TINY_CONTEXT)
    config = checkpoint / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": _CHAT_TEMPLATE}))


@pytest.fixture
def waiting(kept: KeptSessions) -> str:
    """A session `alice/2` with one turn, and another one that waits for a person; its call's id."""
    return kept.waiting("alice/2", policy="shields.yaml")


def _resume(cli: Cli, *options: str) -> Outcome:
    return cli("sessions", "resume", "alice/2", *SETUP, *TINY, "--max-tokens", "4", *options)


def _words_about(call_id: str, session_id: str) -> list[str]:
    return [
        'agentkit: send_mail {"text": "hi"} waits: the policy or the tool asks for approval',
        f"agentkit: agentkit sessions approve {session_id} {call_id}  (or deny)",
        f"agentkit: then agentkit sessions resume {session_id}, with the same --store, -p, -t, -i and --import",
    ]


@pytest.mark.model
def test_a_run_that_waits_goes_on_in_another_process_with_its_own_model(cli: Cli, folder: Path) -> None:
    brief = (*SETUP, "-i", "You send mails.", "--max-tokens", "40")
    asked = cli("run", 'Send a mail that says "hi".', "-s", "alice/9", *brief)
    call_id = cli("sessions", "show", "alice/9", "--json").json["unfinished"]["calls"][0]["call_id"]
    assert (asked.code, asked.out) == (1, "")
    assert asked.err.splitlines() == _words_about(call_id, "alice/9")
    assert cli("sessions", "approve", "alice/9", call_id).code == 0
    assert not (folder / "outbox.txt").exists()
    resumed = cli("sessions", "resume", "alice/9", *brief)
    assert (resumed.code, resumed.err) == (0, "")
    assert (folder / "outbox.txt").read_text() == "hi\n"


def test_an_approved_call_is_made_by_the_resume_and_once(cli: Cli, folder: Path, waiting: str) -> None:
    still = _resume(cli)
    assert (still.code, still.err.splitlines()) == (1, _words_about(waiting, "alice/2"))
    assert not (folder / "outbox.txt").exists()
    cli("sessions", "approve", "alice/2", waiting)
    resumed = _resume(cli)
    assert (resumed.code, resumed.err) == (0, "")
    assert "send_mail ok: sent\n" in resumed.out
    assert " input tokens from the cache; shields " in resumed.out
    assert (folder / "outbox.txt").read_text() == "hi\n"
    assert _resume(cli).err == "agentkit: session 'alice/2' has no unfinished turn\n"


def test_a_denied_call_is_not_made_and_json_is_that_of_run(cli: Cli, folder: Path, waiting: str) -> None:
    waits = _resume(cli, "--json").json
    assert waits["status"] == "awaiting_approval"
    assert waits["approvals"] == [
        {
            "call_id": waiting,
            "tool": "send_mail",
            "arguments": {"text": "hi"},
            "effect": "write",
            "reason": "the policy or the tool asks for approval",
            "tainted_arguments": [],
        }
    ]
    cli("sessions", "deny", "alice/2", waiting)
    ended = _resume(cli, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.json["status"], ended.json["approvals"]) == ("completed", [])
    assert [message["role"] for message in ended.json["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert not (folder / "outbox.txt").exists()


def test_a_call_of_unknown_outcome_waits_for_a_person_again(
    cli: Cli, kept: KeptSessions, waiting: str
) -> None:
    kept.begin_the_call("alice/2")
    outcome = _resume(cli)
    assert outcome.code == 1
    assert "waits: this call was interrupted and may have been made already" in outcome.err
    assert cli("sessions", "show", "alice/2", "--json").json["unfinished"]["calls"][0]["state"] == "waiting"


def test_an_abandoned_turn_leaves_what_was_before_it(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    before = kept.load("alice/2")
    outcome = cli("sessions", "abandon", "alice/2", *SETUP, *TINY)
    assert (outcome.code, outcome.out) == (0, "the unfinished turn of alice/2 is abandoned\n")
    after = kept.load("alice/2")
    assert after.journal == ()
    assert [entry.message for entry in after.entries] == [entry.message for entry in before.entries]


@pytest.mark.parametrize("command", [("sessions", "resume"), ("sessions", "abandon"), ("chat", "-s")])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-t", "cli_test_tools:send_mail", "-i", ""), "is not under the default policy; name its policy file with -p"),
        (SETUP, "has instructions; give them with -i (`agentkit sessions show` prints them)"),
        (("-p", "shields.yaml", "-i", ""), "calls send_mail; offer it with -t module:object"),
    ],
)  # fmt: skip
def test_what_is_left_out_must_be_as_the_session_has_it(
    cli: Cli, kept: KeptSessions, command: tuple[str, ...], options: tuple[str, ...], message: str
) -> None:
    kept.waiting("alice/3", policy="shields.yaml", instructions="Be brief.")
    outcome = cli(*command, "alice/3", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"agentkit: the unfinished turn of session 'alice/3' {message}\n"


def test_an_imported_session_goes_on(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.", policy="shields.yaml")
    exported = cli("sessions", "export", "alice/1").out
    to = ("--store", "sqlite:///new.db", "-p", "shields.yaml", *TINY)
    outcome = cli("sessions", "import", "-", "--id", "bob/1", *to, stdin=exported)
    assert (outcome.code, outcome.out, outcome.err) == (0, "bob/1 is imported\n", "")
    messages = cli("sessions", "show", "bob/1", "--store", "sqlite:///new.db", "--json").json["messages"]
    assert [message["content"] for message in messages] == ["Question 1?", "One."]
    again = cli("sessions", "import", "-", "--id", "bob/1", *to, stdin=exported)
    assert again.code == 2
    assert again.err == "agentkit: there is a session 'bob/1' already; name another with --id\n"


def test_an_import_is_judged_like_any_memory(cli: Cli, kept: KeptSessions, folder: Path) -> None:
    kept.talk("alice/1", "One.")
    (folder / "strict.yaml").write_text(
        POLICY.replace("{shield: injection, on_hit: withhold}", "{shield: injection, on_hit: block}")
    )
    exported = cli("sessions", "export", "alice/1").out.replace("Question 1?", INJECTION)
    options = ("--id", "alice/3", "-p", "strict.yaml", *TINY)
    outcome = cli("sessions", "import", "-", *options, stdin=exported)
    assert (outcome.code, outcome.out) == (1, "")
    assert "that stage memory blocks (shield injection)" in outcome.err
    assert INJECTION not in outcome.err
    assert kept.ids() == ["alice/1"]


def test_a_run_in_a_session_goes_on_from_it_and_not_over_an_open_turn(
    cli: Cli, kept: KeptSessions, waiting: str
) -> None:
    brief = ("-p", "shields.yaml", *TINY, "--max-tokens", "4")
    assert cli("run", "Say hi.", "-s", "bob/1", *brief).code == 0
    assert cli("run", "And again.", "-s", "bob/1", *brief).code == 0
    assert [entry.turn for entry in kept.load("bob/1").entries] == [1, 1, 2, 2]
    refused = cli("run", "Hi", "-s", "alice/2", *brief)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        f"agentkit: the last turn of session 'alice/2' waits for a person to decide about send_mail ({waiting}); "
        "`agentkit sessions resume alice/2` goes on with it, `abandon` ends it\n"
    )


def test_chat_goes_on_with_an_unfinished_turn_when_told_to(cli: Cli, folder: Path, waiting: str) -> None:
    told = ("Hello?", "/resume", "y", "/resume")
    outcome = cli("chat", "-s", "alice/2", *SETUP, *TINY, stdin="".join(f"{line}\n" for line in told))
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    offer = "its last turn has not ended: /resume goes on with it and asks about calls that wait, /abandon ends it"
    assert lines[0].startswith("session alice/2, 2 turns so far; ")
    assert lines[1:3] == [offer, f"you {offer}"]
    assert 'allow send_mail {"text": "hi"}? (the policy or the tool asks for approval) y/N ' in outcome.out
    assert "send_mail ok: sent\n" in outcome.out
    assert "you the last turn has ended\n" in outcome.out
    assert (folder / "outbox.txt").read_text() == "hi\n"


def test_chat_abandons_an_unfinished_turn_when_told_to(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    outcome = cli("chat", "-s", "alice/2", *SETUP, *TINY, stdin="/abandon\n/abandon\n")
    assert outcome.code == 0
    assert "you session alice/2, 1 turn so far\nyou the last turn has ended\n" in outcome.out
    assert kept.load("alice/2").journal == ()


def test_looking_and_deciding_load_no_torch(folder: Path, waiting: str) -> None:
    script = (
        "import sys\nfrom agentkit.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    for command in (
        ("list",), ("show", "alice/2"), ("approve", "alice/2", waiting), ("fork", "alice/2", "alice/3"),
        ("rollback", "alice/2", "1"), ("export", "alice/2"), ("audit", "alice"),
        ("prune", "--older-than", "1d"), ("delete", "alice/2", "--yes"),
    ):  # fmt: skip
        ended = subprocess.run(
            [AGENTKIT[0], "-c", script, "sessions", *command],
            cwd=folder, text=True, capture_output=True, timeout=SECONDS,
        )  # fmt: skip
        assert ended.stderr.splitlines()[-1] == "0 False", command


def test_the_commands_work_on_postgresql(
    cli: Cli, kept: KeptSessions, postgres_server: PostgresServer
) -> None:
    postgres_server.execute("CREATE DATABASE agentkit_cli")
    url = postgres_server.url(database="agentkit_cli")
    there = ("--store", url)
    try:
        kept.talk("alice/1", "One.", "Two.", policy="shields.yaml")
        exported = cli("sessions", "export", "alice/1").out
        assert cli("sessions", "import", "-", *there, "-p", "shields.yaml", *TINY, stdin=exported).code == 0
        assert cli("sessions", "fork", "alice/1", "alice/2", "--turn", "1", *there).code == 0
        assert cli("sessions", "rollback", "alice/1", "1", *there).code == 0
        rows = cli("sessions", "list", "--json", *there).rows
        assert [(row["id"], row["turns"]) for row in rows] == [("alice/1", 1), ("alice/2", 1)]
        assert cli("sessions", "delete", "alice/2", "--yes", *there).code == 0
        assert cli("sessions", "audit", "alice", "--verify", "--json", *there).json["records"] == 3
        refused = cli("sessions", "backup", "copy.db", *there)
        assert refused.err == (
            "agentkit: only a SQLite store has a backup of its own, this is a PostgresStore; "
            "use the database's own tools, such as pg_dump\n"
        )
    finally:
        postgres_server.execute("DROP DATABASE agentkit_cli WITH (FORCE)")
