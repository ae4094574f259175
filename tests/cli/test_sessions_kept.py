"""`agentkit sessions` where content leaves a store or goes for good, and the log of it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from agentkit.agent.saved_kv import kv_path
from agentkit.memory.export import session_from_json
from tests.cli.driving import Cli
from tests.cli.kept_sessions import SEND_MAIL, KeptSessions
from tests.cli.terminal import AGENTKIT, SECONDS, on_terminal


def test_an_export_is_the_session_whole(cli: Cli, kept: KeptSessions, folder: Path) -> None:
    kept.talk("alice/1", "Gr\u00fc\u00dfe \u2602.", "Two.")
    printed = cli("sessions", "export", "alice/1")
    written = cli("sessions", "export", "alice/1", "alice.json")
    assert (printed.code, written.code, written.out) == (0, 0, "alice/1 is in alice.json\n")
    assert json.loads((folder / "alice.json").read_text("ascii")) == printed.json
    assert session_from_json(printed.json).entries == kept.load("alice/1").entries


def test_an_export_leaves_an_unfinished_turn_out_and_says_so(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.", SEND_MAIL)
    outcome = cli("sessions", "export", "alice/1", "-")
    assert outcome.err == "agentkit: the unfinished turn of alice/1 is not part of the export\n"
    assert [entry["turn"] for entry in outcome.json["entries"]] == [0, 1, 1]


def test_a_backup_is_a_store(cli: Cli, kept: KeptSessions, folder: Path) -> None:
    kept.talk("alice/1", "One.")
    assert cli("sessions", "backup", "copy.db").out == "the store is in copy.db\n"
    cli("sessions", "delete", "alice/1", "--yes")
    rows = cli("sessions", "list", "--store", "sqlite:///copy.db", "--json").rows
    assert [row["id"] for row in rows] == ["alice/1"]
    again = cli("sessions", "backup", "copy.db")
    assert again.code == 2
    assert again.err == f"agentkit: backup {folder / 'copy.db'} exists; name a new file\n"


def test_a_deleted_session_is_gone_and_on_record(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.")
    outcome = cli("sessions", "delete", "alice/1", "--yes")
    assert (outcome.code, outcome.out, kept.ids()) == (0, "alice/1 is deleted\n", [])
    assert cli("sessions", "audit", "alice", "--json").rows[-1]["kind"] == "session_deleted"


@pytest.mark.parametrize(
    ("answer", "code", "shown"),
    [("y\n", 0, "alice/1 is deleted"), ("\n", 1, "agentkit: alice/1 was kept"), ("\x04", 1, "was kept")],
)
def test_on_a_terminal_deleting_asks_first(
    folder: Path, kept: KeptSessions, answer: str, code: int, shown: str
) -> None:
    kept.talk("alice/1", "One.")
    with on_terminal(folder, "sessions", "delete", "alice/1") as terminal:
        terminal.wait_for("delete session alice/1 for good? y/N")
        terminal.type(answer)
        terminal.wait_for(shown)
    assert terminal.process.returncode == code
    assert kept.ids() == ([] if code == 0 else ["alice/1"])


def test_prune_deletes_what_its_dry_run_names(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.")
    kept.talk("alice/2", "One.", SEND_MAIL)
    kept.talk("bob/1", "One.")
    kept.make_old("alice/1", "alice/2", "bob/1")
    kept.talk("alice/3", "One.")
    named = cli("sessions", "prune", "--older-than", "30d", "--prefix", "alice/", "--dry-run")
    assert (named.code, named.out, named.err) == (0, "alice/1\n", "agentkit: 1 would be deleted\n")
    assert len(kept.ids()) == 4
    pruned = cli("sessions", "prune", "--older-than", "30d", "--prefix", "alice/")
    assert (pruned.code, pruned.out, pruned.err) == (0, "alice/1\n", "agentkit: 1 deleted\n")
    assert kept.ids() == ["alice/2", "alice/3", "bob/1"]


@pytest.mark.parametrize(
    ("age", "pruned"), [("1s", True), ("9999m", True), ("1000h", False), ("99999w", False)]
)
def test_the_age_has_a_unit(cli: Cli, kept: KeptSessions, age: str, pruned: bool) -> None:
    kept.talk("alice/1", "One.")
    kept.make_old("alice/1")
    assert cli("sessions", "prune", "--older-than", age, "--dry-run").out == ("alice/1\n" if pruned else "")


def test_the_audit_log_is_a_line_a_record_without_content(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "Something quizzical.")
    outcome = cli("sessions", "audit", "alice")
    assert outcome.code == 0
    sequence, _, session, kind, *details = outcome.out.rstrip("\n").split("  ")
    assert (sequence, session, kind) == ("1", "alice/1", "turn_ended")
    assert details[1] == "status completed"
    assert details[-3:] == ["2 messages", "2 decisions", "readmitted 0"]
    in_json = cli("sessions", "audit", "alice", "--json")
    assert list(in_json.json) == [
        "tenant", "sequence", "time", "session_id", "kind", "details", "previous", "digest",
    ]  # fmt: skip
    assert "quizzical" not in outcome.out + in_json.out


def test_a_whole_chain_is_told_with_its_end(cli: Cli, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.", "Two.")
    last = cli("sessions", "audit", "alice", "--json").rows[-1]["digest"]
    outcome = cli("sessions", "audit", "alice", "--verify")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"tenant 'alice': 2 records, the chain is whole, its last digest is {last}\n"
    assert cli("sessions", "audit", "alice", "--verify", "--json").json == {
        "tenant": "alice", "records": 2, "whole": True, "last_digest": last,
    }  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--verify",), ("--verify", "--json")])
def test_a_changed_log_exits_1(cli: Cli, kept: KeptSessions, options: tuple[str, ...]) -> None:
    kept.talk("alice/1", "One.", "Two.")
    with closing(sqlite3.connect(kept.path)) as connection, connection:
        changed = connection.execute("UPDATE audit SET kind = 'turn_edited' WHERE sequence = 2")
        assert changed.rowcount == 1
    outcome = cli("sessions", "audit", "alice", *options)
    assert outcome.code == 1
    assert outcome.err == (
        "agentkit: the audit chain of tenant 'alice' is broken at record 2: "
        "it was changed, or one before it is missing\n"
    )
    if options == ("--verify", "--json"):
        assert outcome.json["whole"] is False


def test_the_environment_names_the_store(folder: Path, kept: KeptSessions) -> None:
    kept.talk("alice/1", "One.")
    kept.path.rename(folder / "other.db")
    ended = subprocess.run(
        [*AGENTKIT, "sessions", "list", "--json"],
        cwd=folder,
        env={**os.environ, "AGENTKIT_STORE": "sqlite:///other.db"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (ended.returncode, ended.stderr, json.loads(ended.stdout)["id"]) == (0, "", "alice/1")


@pytest.mark.parametrize(
    "command", [("delete", "alice/1", "--yes"), ("rollback", "alice/1", "1"), ("prune", "--older-than", "1s")]
)
def test_the_kv_file_of_a_session_goes_with_its_content(
    cli: Cli, kept: KeptSessions, folder: Path, command: tuple[str, ...]
) -> None:
    kept.talk("alice/1", "One.")
    time.sleep(1.1)  # older than the second that `prune` is given
    file = kv_path(folder / "kv", "alice/1")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"pairs")
    assert cli("sessions", *command, "--kv-folder", str(folder / "kv")).code == 0
    assert not file.exists()
