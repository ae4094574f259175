"""`agentkit policy …`: what operators read, and what CI acts on."""

from __future__ import annotations

from pathlib import Path

from tests.cli.driving import POLICY, Cli

MISTYPED = "mistyped.yaml:9: unknown key 'on_hitt' in stages.tool_result[0]; did you mean 'on_hit'?"


def test_check_of_a_right_policy_counts_what_it_holds(cli: Cli) -> None:
    outcome = cli("policy", "check", "shields.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("shields.yaml: ok, 1 shield, 2 tests, digest ")


def test_check_goes_on_after_a_wrong_file_and_exits_1(cli: Cli) -> None:
    outcome = cli("policy", "check", "mistyped.yaml", "shields.yaml")
    assert (outcome.code, outcome.err) == (1, f"{MISTYPED}\n")
    assert outcome.out.startswith("shields.yaml: ok")


def test_check_in_json_has_file_line_and_error(cli: Cli) -> None:
    outcome = cli("policy", "check", "--json", "mistyped.yaml", "shields.yaml")
    assert outcome.code == 1
    assert outcome.rows == [
        {"file": "mistyped.yaml", "ok": False, "line": 9, "error": MISTYPED},
        {"file": "shields.yaml", "ok": True, "line": None, "error": None},
    ]


def test_a_shield_of_ones_own_is_known_once_imported(cli: Cli) -> None:
    assert cli("policy", "check", "foreign.yaml", "--import", "cli_test_shields").code == 0


def test_explain_says_what_is_judged_where(cli: Cli) -> None:
    outcome = cli("policy", "explain", "shields.yaml")
    assert outcome.code == 0
    assert "What the user says (user_input):\n  a hit of injection is blocked\n" in outcome.out


def test_test_runs_the_tests_of_the_file(cli: Cli) -> None:
    outcome = cli("policy", "test", "shields.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        "ok    shields.yaml:14  user_input: block\n"
        "ok    shields.yaml:15  tool_result: allow\n"
        "2 tests: 2 passed, 0 failed\n"
    )


def test_a_failed_test_exits_1_and_says_what_each_shield_said(cli: Cli, folder: Path) -> None:
    (folder / "shields.yaml").write_text(POLICY.replace("expect: allow", "expect: block"))
    outcome = cli("policy", "test", "shields.yaml")
    assert outcome.code == 1
    _, failed, total = outcome.out.splitlines()
    assert failed.startswith(
        "FAIL  shields.yaml:15  tool_result: expected block, got allow (injection pass 0."
    )
    assert total == "2 tests: 1 passed, 1 failed"


def test_test_in_json_is_one_object_a_test(cli: Cli) -> None:
    rows = cli("policy", "test", "shields.yaml", "--json").rows
    assert [(row["file"], row["test"], row["line"], row["passed"]) for row in rows] == [
        ("shields.yaml", 1, 14, True),
        ("shields.yaml", 2, 15, True),
    ]
    assert list(rows[0]) == ["file", "test", "passed", "stage", "expect", "action", "line", "decision"]


def test_the_policies_of_the_examples_pass_their_tests(cli: Cli) -> None:
    policies = sorted(Path(__file__, "../../../examples/policies").resolve().glob("*.yaml"))
    assert cli("policy", "test", *map(str, policies)).code == 0


def test_diff_says_what_gets_looser_and_exits_1(cli: Cli, folder: Path) -> None:
    (folder / "new.yaml").write_text(POLICY.replace("on_hit: withhold", "on_hit: annotate", 1))
    looser = cli("policy", "diff", "shields.yaml", "new.yaml")
    assert (looser.code, looser.out) == (
        1,
        "looser    tool_result: a hit of injection was withhold, is annotate\n",
    )
    stricter = cli("policy", "diff", "new.yaml", "shields.yaml", "--json")
    assert (stricter.code, stricter.json) == (
        0,
        {
            "direction": "stricter",
            "place": ["stages", "tool_result", 0],
            "change": "tool_result: a hit of injection was annotate, is withhold",
        },
    )
    same = cli("policy", "diff", "shields.yaml", "shields.yaml")
    assert (same.code, same.out) == (0, "nothing changes\n")


def test_a_change_that_nobody_can_judge_exits_1(cli: Cli, folder: Path) -> None:
    outcome = cli("policy", "diff", "shields.yaml", "foreign.yaml", "--import", "cli_test_shields")
    assert outcome.code == 1
    assert outcome.out.startswith(
        "unclear   shield injection was instruction_override, is cli_test_shouting\n"
    )


def test_a_policy_is_signed_and_verified(cli: Cli, folder: Path) -> None:
    assert cli("policy", "keygen", "team").out.startswith("team.key signs policies: keep it secret.")
    unsigned = cli("policy", "verify", "shields.yaml", "--key", "team.pub")
    assert unsigned.code == 1
    assert unsigned.err.startswith("shields.yaml: is not signed: there is no shields.yaml.sig beside it")
    assert (
        cli("policy", "sign", "shields.yaml", "--key", "team.key").out
        == "shields.yaml: signed in shields.yaml.sig\n"
    )
    verified = cli("policy", "verify", "shields.yaml", "--key", "team.pub")
    assert (verified.code, verified.out[:29]) == (0, "shields.yaml: signed, digest ")
    (folder / "shields.yaml").write_text(POLICY + "\n")
    assert cli("policy", "verify", "shields.yaml", "--key", "team.pub").code == 1


def test_a_file_that_is_no_policy_is_not_signed(cli: Cli, folder: Path) -> None:
    cli("policy", "keygen", "team")
    outcome = cli("policy", "sign", "mistyped.yaml", "--key", "team.key")
    assert (outcome.code, outcome.err) == (2, f"agentkit: {MISTYPED}\n")
    assert not (folder / "mistyped.yaml.sig").exists()
