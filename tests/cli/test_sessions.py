"""`agentkit sessions` over a real store, as far as it needs no model: what is shown, decided, forked and deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit.memory.journal import ApprovalGiven
from tests.cli.driving import Cli
from tests.cli.kept_sessions import SEND_MAIL, KeptSessions

NO_STORE = "agentkit: there is no store "


@pytest.fixture
def waiting(kept: KeptSessions) -> str:
    """A session `alice/2` with one turn, and another one that waits for a person; its call's id."""
    return kept.waiting("alice/2")


def test_list_shows_a_line_for_each_session(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    kept.talk("bob/1", "One.")
    outcome = cli("sessions", "list")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [(row[0], row[1], row[2], row[-1]) for row in rows] == [
        ("ID", "TURNS", "ENTRIES", "STATE"),
        ("alice/2", "1", "3", "unfinished"),
        ("bob/1", "1", "3", "-"),
    ]


def test_list_in_json_has_stable_fields(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    kept.talk("bob/1", "One.")
    rows = cli("sessions", "list", "--prefix", "alice/", "--json").rows
    assert [list(row) for row in rows] == [["id", "turns", "entries", "created", "updated", "unfinished"]]
    assert (rows[0]["id"], rows[0]["turns"], rows[0]["unfinished"]) == ("alice/2", 1, True)


def test_show_has_every_message_and_how_to_go_on(cli: Cli, waiting: str) -> None:
    outcome = cli("sessions", "show", "alice/2")
    head, _, *lines = outcome.out.splitlines()
    assert head.startswith("alice/2: 1 turn, 5 messages, ")
    assert lines == [
        "[1] user (19 tokens): Question 1?",
        "[1] assistant (17 tokens): One.",
        "[2] user (19 tokens): Question 2?",
        "[2] assistant (64 tokens)",
        f'    call send_mail {{"text": "hi"}} ({waiting})',
        f"unfinished: turn 2 waits for a person to decide about send_mail ({waiting})",
        f'    waiting send_mail {{"text": "hi"}} ({waiting}, the policy or the tool asks for approval)',
        f"Decide: agentkit sessions approve alice/2 {waiting}  (or deny)",
        "Go on:  agentkit sessions resume alice/2  (or abandon)",
    ]


def test_show_in_json_has_stable_fields(cli: Cli, waiting: str) -> None:
    shown = cli("sessions", "show", "alice/2", "--json").json
    assert list(shown) == ["id", "turns", "tokens", "header", "messages", "unfinished"]
    assert list(shown["messages"][0]) == [
        "id", "turn", "tokens", "generated", "pinned",
        "role", "content", "provenance", "tool_calls", "call_id", "tool_name",
    ]  # fmt: skip
    assert shown["tokens"] == sum(message["tokens"] for message in shown["messages"])
    assert shown["unfinished"] == {
        "turn": 2,
        "state": "awaiting_approval",
        "steps": 1,
        "calls": [
            {
                "call_id": waiting,
                "tool": "send_mail",
                "arguments": {"text": "hi"},
                "state": "waiting",
                "reason": "the policy or the tool asks for approval",
            }
        ],
    }


def test_a_finished_session_has_nothing_unfinished(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("bob/1", "One.")
    assert cli("sessions", "show", "bob/1", "--json").json["unfinished"] is None
    assert "unfinished" not in cli("sessions", "show", "bob/1").out


@pytest.mark.parametrize(("command", "state"), [("approve", "approved"), ("deny", "denied")])
def test_a_decision_is_kept_for_the_resume(
    cli: Cli, kept: KeptSessions, waiting: str, command: str, state: str
) -> None:
    outcome = cli("sessions", command, "alice/2", waiting)
    assert (outcome.code, outcome.err) == (0, "")
    assert "`agentkit sessions resume alice/2`" in outcome.out
    given = kept.load("alice/2").journal[-1]
    assert isinstance(given, ApprovalGiven)
    assert (given.call_id, given.approved) == (waiting, command == "approve")
    unfinished = cli("sessions", "show", "alice/2", "--json").json["unfinished"]
    assert (unfinished["state"], unfinished["calls"][0]["state"]) == ("interrupted", state)


def test_a_call_that_does_not_wait_is_not_decided_about(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    outcome = cli("sessions", "approve", "alice/2", "call_x")
    assert outcome.code == 2
    assert outcome.err == (
        f"agentkit: session 'alice/2' has no call 'call_x' that waits for a person; there is {waiting}\n"
    )
    assert cli("sessions", "deny", "alice/2", waiting).code == 0
    assert cli("sessions", "approve", "alice/2", waiting).code == 2


def test_a_call_that_a_killed_process_began_is_unknown(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    kept.begin_the_call("alice/2")
    unfinished = cli("sessions", "show", "alice/2", "--json").json["unfinished"]
    assert (unfinished["state"], unfinished["calls"][0]["state"]) == ("interrupted", "unknown")
    assert "turn 2 was interrupted in step 1\n" in cli("sessions", "show", "alice/2").out


def test_a_fork_has_the_finished_turns_alone(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    outcome = cli("sessions", "fork", "alice/2", "alice/3")
    assert (outcome.code, outcome.out) == (0, "alice/3 is a fork of alice/2\n")
    fork, source = kept.load("alice/3"), kept.load("alice/2")
    assert fork.entries == source.entries
    assert (bool(fork.journal), bool(source.journal)) == (False, True)


def test_a_fork_may_end_with_an_earlier_turn(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.", "Two.")
    assert cli("sessions", "fork", "alice/1", "alice/3", "--turn", "1").code == 0
    assert kept.load("alice/3").entries == kept.load("alice/1").entries[:3]


def test_a_rollback_forgets_the_turns_after_one_and_is_on_record(
    cli: Cli, kept: KeptSessions, waiting: str
) -> None:
    before = kept.load("alice/2")
    outcome = cli("sessions", "rollback", "alice/2", "1")
    assert (outcome.code, outcome.out) == (0, "alice/2 ends with turn 1\n")
    after = kept.load("alice/2")
    assert (after.entries, after.journal, after.header) == (before.entries, (), before.header)
    assert cli("sessions", "rollback", "alice/2", "0").code == 0
    assert [entry.message.role for entry in kept.load("alice/2").entries] == ["system"]
    log = cli("sessions", "audit", "alice", "--json").rows
    assert [(row["kind"], row["details"]["turn"]) for row in log[1:]] == [
        ("session_rolled_back", 1),
        ("session_rolled_back", 0),
    ]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fork alice/1 bob/1", "a fork stays with its tenant 'alice', 'bob/1' is of tenant 'bob'; "
         "export the session and import it there"),
        ("fork alice/1 alice/1", "session 'alice/1' exists; fork to another id or delete it"),
        ("fork alice/1 alice/3 --turn 9", "session 'alice/1' has no turn 9 in its context; it has 0 to 1"),
        ("rollback alice/1 9", "session 'alice/1' has no turn 9 in its context; it has 0 to 1"),
        ("rollback alice/new 0", "session 'alice/new' has no finished turn; abandon or delete it"),
        ("fork alice/new alice/3", "session 'alice/new' has no finished turn; abandon or delete it"),
        ("resume alice/1", "session 'alice/1' has no unfinished turn"),
        ("abandon alice/1", "session 'alice/1' has no unfinished turn"),
        ("approve alice/1 c", "session 'alice/1' has no call 'c' that waits for a person; none waits"),
        ("audit alcie", "tenant 'alcie' has no audit log in this store; did you mean 'alice'?"),
        ("audit zzz --verify", "tenant 'zzz' has no audit log in this store"),
        ("prune --older-than 30", "--older-than must be a number from 1 to 99999 and one of s, m, h, d, w, "
         "for instance 30d, got '30'"),
        ("delete alice/1", "deleting a session needs --yes where nobody can be asked"),
        ("export alice/1 shields.yaml", "shields.yaml exists; name a new file"),
        ("export alice/1 no/a.json", "cannot write no/a.json: No such file or directory"),
        ("import object.json", "this is no exported session: its format is not 'agentkit.session'"),
        ("import question.json", "question.json must hold an exported session, got a list"),
        ("import alice.jsn", "there is no file alice.jsn"),
        ("list --store memory://", "store 'memory://' ends with its process; "
         "name one that lasts, such as sqlite:///agentkit.db"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(cli: Cli, kept: KeptSessions, command: str, message: str) -> None:
    kept.talk("alice/1", "One.")
    kept.talk("alice/new", SEND_MAIL)
    outcome = cli("sessions", *command.split())
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"agentkit: {message}\n")
    assert kept.ids() == ["alice/1", "alice/new"]


@pytest.mark.parametrize(
    "command",
    ["show alcie/1", "resume alcie/1", "approve alcie/1 c", "deny alcie/1 c", "abandon alcie/1",
     "fork alcie/1 alcie/2", "rollback alcie/1 0", "export alcie/1", "delete alcie/1 --yes"],
)  # fmt: skip
def test_a_mistyped_session_has_a_hint(cli: Cli, kept: KeptSessions, command: str) -> None:
    kept.talk("alice/1", "One.")
    outcome = cli("sessions", *command.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "agentkit: there is no session 'alcie/1'; did you mean 'alice/1'?\n"


def test_an_unlike_session_points_to_the_list(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.")
    assert cli("sessions", "show", "zzz").err == (
        "agentkit: there is no session 'zzz'; `agentkit sessions list` shows those that there are\n"
    )


def test_looking_never_makes_a_store(cli: Cli, folder: Path) -> None:
    outcome = cli("sessions", "list")
    assert outcome.code == 2
    assert outcome.err.startswith(f"{NO_STORE}{folder / 'agentkit.db'}")
    assert not (folder / "agentkit.db").exists()


def test_a_mistyped_store_has_a_hint(cli: Cli, folder: Path, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.")
    outcome = cli("sessions", "list", "--store", "sqlite:///agentkti.db")
    assert outcome.err == f"{NO_STORE}{folder / 'agentkti.db'}; did you mean '{kept.path}'?\n"


def test_a_session_that_somebody_runs_is_not_changed(cli: Cli, kept: KeptSessions, waiting: str) -> None:
    before = kept.load("alice/2")
    with kept.held("alice/2"):
        for command in (
            f"approve alice/2 {waiting}", "rollback alice/2 0", "delete alice/2 --yes", "fork alice/2 alice/3",
        ):  # fmt: skip
            outcome = cli("sessions", *command.split())
            assert (outcome.code, outcome.out) == (2, "")
            assert outcome.err.startswith("agentkit: session 'alice/2' is in use by another run")
    assert kept.load("alice/2") == before
    assert kept.ids() == ["alice/2"]
