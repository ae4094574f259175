"""`agentkit scan`: a verdict a row, with stable fields, and an exit code that a pipeline can act on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.driving import INJECTION, POLICY, Cli

FIELDS = [
    "flagged", "stage", "action", "blocked", "shield", "category", "reason", "escalation", "content_digest",
    "findings", "outcomes",
]  # fmt: skip


def test_an_injection_exits_1_with_a_verdict(cli: Cli) -> None:
    outcome = cli("scan", "--stage", "user_input", stdin=INJECTION)
    verdict = outcome.json
    assert (outcome.code, outcome.err) == (1, "")
    assert list(verdict) == FIELDS
    assert (verdict["flagged"], verdict["action"], verdict["shield"]) == (True, "block", "injection")
    assert INJECTION not in outcome.out


def test_a_benign_request_exits_0(cli: Cli) -> None:
    outcome = cli("scan", "--stage", "user_input", stdin="What is the temperature in Paris?")
    assert (outcome.code, outcome.json["flagged"], outcome.json["action"]) == (0, False, "allow")


def test_rows_keep_their_ids_and_order(cli: Cli) -> None:
    texts = [(7, "hello"), ("b", INJECTION), (None, "bye"), ({"n": [1]}, "\ud800")]
    rows = [json.dumps({"id": row_id, "text": text}) for row_id, text in texts]
    outcome = cli("scan", "--stage", "tool_result", "-p", "shields.yaml", "--jsonl", stdin="\n\n".join(rows))
    assert outcome.code == 1
    assert [(row["id"], row["action"]) for row in outcome.rows] == [
        (7, "allow"), ("b", "withhold"), (None, "allow"), ({"n": [1]}, "allow"),
    ]  # fmt: skip
    assert list(outcome.rows[0]) == ["id", *FIELDS]


def test_a_row_without_an_id_has_none(cli: Cli) -> None:
    outcome = cli(
        "scan", "--stage", "memory", "-p", "shields.yaml", "--jsonl", stdin='\ufeff{"text": "x"}\r\n'
    )
    assert (outcome.code, list(outcome.json)) == (0, FIELDS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "is not JSON: expecting property name enclosed in double quotes (column 2)"),
        (b'{"text": "a", "id": NaN}', "is not JSON: NaN is not a JSON value"),
        (b'{"id": 3}', 'must be an object with a string "text"'),
        (b'["text"]', 'must be an object with a string "text"'),
        (b'{"text": "\xff"}', "is not UTF-8 (byte 10); convert it first"),
    ],
)
def test_a_row_that_cannot_be_read_names_its_line_after_the_verdicts_before_it(
    cli: Cli, line: bytes, message: str
) -> None:
    stdin = b'{"text": "a"}\n\n' + line + b'\n{"text": "b"}\n'
    outcome = cli("scan", "--stage", "memory", "-p", "shields.yaml", "--jsonl", stdin=stdin)
    assert (outcome.code, outcome.err) == (2, f"agentkit: line 3 of stdin {message}\n")
    assert len(outcome.rows) == 1


def test_a_shield_in_shadow_is_recorded_and_flags_nothing(cli: Cli, folder: Path) -> None:
    shadowed = POLICY.replace("{use: instruction_override}", "{use: instruction_override, mode: shadow}")
    (folder / "shields.yaml").write_text(shadowed)
    outcome = cli("scan", "--stage", "user_input", "-p", "shields.yaml", stdin=INJECTION)
    assert (outcome.code, outcome.json["flagged"]) == (0, False)
    assert outcome.json["outcomes"][0]["status"] == "hit"


def test_a_shield_of_ones_own_is_imported_first(cli: Cli) -> None:
    outcome = cli(
        "scan", "--stage", "user_input", "-p", "foreign.yaml", "--import", "cli_test_shields", stdin="LOUD"
    )
    assert (outcome.code, outcome.json["category"]) == (1, "shouting")


def test_code_is_python_unless_said_otherwise(cli: Cli) -> None:
    outcome = cli("scan", "--stage", "code", stdin="import os\nos.system(input())")
    assert (outcome.code, outcome.json["shield"]) == (1, "code")
