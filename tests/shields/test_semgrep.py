"""The shield `semgrep`, on a real semgrep where there is one, and on programs that only claim to be it.

The real one is what AGENTKIT_SEMGREP names, else the one beside the interpreter.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.shields import OutcomeStatus, Pipeline, Stage, Verdict
from agentkit.shields.semgrep import Semgrep
from tests.shields.fakes import AnsweringShield, content_at, policy_for

BESIDE = Path(sys.executable).with_name("semgrep")
REAL = os.environ.get("AGENTKIT_SEMGREP") or (str(BESIDE) if BESIDE.exists() else None)
needs_semgrep = pytest.mark.skipif(
    REAL is None, reason="needs `pip install agentkit[semgrep]`, or semgrep==1.79.0 named by AGENTKIT_SEMGREP"
)
RULES = """\
rules:
  - id: evaluates-text
    languages: [python]
    severity: ERROR
    message: $X is executed
    metadata: {cwe: ["CWE-95: Eval Injection"]}
    pattern: eval($X)
  - id: java-command
    languages: [java]
    severity: WARNING
    message: a command
    pattern: Runtime.getRuntime().exec($X)
"""
MATCHING_NOTHING = RULES.replace("eval($X)", "evaluate_nothing($X)")
EMPTY = '{"errors": [], "paths": {"scanned": []}, "results": []}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "bad.py").write_text("eval(text)\n")
    (tmp_path / "good.py").write_text("print(text)\n")
    return tmp_path


def shield(folder: Path, executable: str | Path, *, block_at: str = "error") -> Semgrep:
    return Semgrep(
        executable=str(executable),
        rules=str(folder / "rules.yaml"),
        bad_example=str(folder / "bad.py"),
        good_example=str(folder / "good.py"),
        block_at="warning" if block_at == "warning" else "error",
    )


def pretender(folder: Path, answer: str, *, code: int = 0, version: str = "1.79.0") -> Path:
    """Return a program that gives one answer to every scan."""
    (folder / "answer.json").write_text(answer)
    program = folder / "semgrep"
    program.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        f"if '--version' in sys.argv: print('{version}'); sys.exit()\n"
        f"text = open({str(folder / 'answer.json')!r}).read()\n"
        "if text == 'sleep': time.sleep(600)\n"
        f"print(text); sys.exit({code})\n"
    )
    program.chmod(0o755)
    return program


def as_policy(folder: Path, executable: str | Path) -> str:
    options = ", ".join(
        f"{name}: {str(path)!r}"
        for name, path in {
            "executable": executable,
            "rules": folder / "rules.yaml",
            "bad_example": folder / "bad.py",
            "good_example": folder / "good.py",
        }.items()
    )
    return f"a: {{use: semgrep, {options}}}"


async def judged(started: Semgrep, code: str, language: str | None = "python") -> Verdict:
    content = content_at(Stage.CODE, code)
    return await started.check(
        type(content)(text=code, stage=content.stage, provenance=content.provenance, language=language)
    )


async def test_a_program_that_is_not_there_is_refused(folder: Path):
    with pytest.raises(ConfigurationError, match=r"is no program; install 'agentkit\[semgrep\]'"):
        await shield(folder, folder / "nothing").start()


async def test_a_name_of_the_registry_is_no_rules(folder: Path):
    (folder / "rules.yaml").unlink()
    with pytest.raises(ConfigurationError, match=r"there are no rules at .*no registry is asked"):
        await shield(folder, pretender(folder, EMPTY)).start()


async def test_another_version_is_refused(folder: Path):
    with pytest.raises(ConfigurationError, match=r"is version '1\.90\.0', the policy wants 1\.79\.0"):
        await shield(folder, pretender(folder, EMPTY, version="1.90.0")).start()


async def test_rules_that_match_nothing_refuse_to_start(folder: Path):
    policy = policy_for(
        Stage.CODE,
        "[{shield: a, on_hit: block}]",
        shields=as_policy(folder, pretender(folder, EMPTY)),
        rest="failure: {timeout_ms: 30000}",
    )
    with pytest.raises(ConfigurationError, match="failed its self-test: it did not flag a known-bad text"):
        async with Pipeline(policy):
            pass


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", 0),
        ("[]", 0),
        ('{"results": []}', 0),
        ('{"errors": [{"type": "Timeout"}], "paths": {"scanned": []}, "results": []}', 0),
        ('{"errors": [{"type": ["OutOfMemory"], "path": "0_python.py"}], "paths": {}, "results": []}', 0),
        (
            '{"errors": [{"type": "Syntax error", "path": "0_python.py"}], "paths": {"scanned": []}, "results": []}',
            0,
        ),
        ('{"errors": [], "paths": {"scanned": []}, "results": [{"path": "/etc/passwd"}]}', 0),
        (EMPTY, 2),
    ],
)
async def test_what_is_no_report_of_everything_is_no_verdict(folder: Path, answer: str, code: int):
    started = shield(folder, pretender(folder, answer, code=code))
    await started.start()

    with pytest.raises(ShieldError, match="semgrep"):
        await judged(started, "eval(text)")


async def test_a_run_that_takes_too_long_is_ended_and_blocks(folder: Path):
    started = shield(folder, pretender(folder, "sleep"))
    await started.start()
    policy = policy_for(Stage.CODE, "[{shield: a, on_hit: block}]", rest="failure: {timeout_ms: 1500}")

    async with Pipeline(policy, overrides={"a": AnsweringShield(started.check)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.CODE, "import os\nprint(1)"))

    assert (decision.blocked, decision.outcomes[0].status) == (True, OutcomeStatus.TIMEOUT)


@needs_semgrep
async def test_a_rule_is_found_in_its_place_without_its_words(folder: Path):
    started = shield(folder, REAL or "")
    await started.start()
    code = "import os\nvalue = eval(secret_name)  # nosem"

    verdict = await judged(started, code)

    assert (verdict.flagged, verdict.category) == (True, "CWE-95")
    assert [code[found.start : found.end] for found in verdict.findings] == [code.splitlines()[1]]
    assert "evaluates-text" in (verdict.reason or "")
    assert "secret_name" not in (verdict.reason or "")
    assert not (await judged(started, "print(1)")).flagged


@needs_semgrep
async def test_the_level_decides_and_a_language_without_rules_is_skipped(folder: Path):
    code = "class A { void f(String a) { Runtime.getRuntime().exec(a); } }"
    for block_at, flagged in (("error", False), ("warning", True)):
        started = shield(folder, REAL or "", block_at=block_at)
        await started.start()
        assert (await judged(started, code, "java")).flagged is flagged
    assert not (await judged(started, "int main() { return 0; }", "c")).judged


@needs_semgrep
async def test_code_that_it_cannot_read_is_no_verdict(folder: Path):
    started = shield(folder, REAL or "")
    await started.start()

    with pytest.raises(ShieldError, match="could not read 51 characters of code to their end"):
        await judged(started, "class A { void f() { Runtime.getRuntime().exec(a); ", "java")


@needs_semgrep
@pytest.mark.parametrize(("rules", "starts"), [(RULES, True), (MATCHING_NOTHING, False)])
async def test_the_policy_starts_only_with_rules_that_find_the_known_bad_file(
    folder: Path, rules: str, starts: bool
):
    (folder / "rules.yaml").write_text(rules)
    policy = policy_for(
        Stage.CODE,
        "[{shield: a, on_hit: block}]",
        shields=as_policy(folder, REAL or ""),
        rest="failure: {timeout_ms: 30000}",
    )
    if not starts:
        with pytest.raises(ConfigurationError, match="did not flag a known-bad text"):
            async with Pipeline(policy):
                pass
        return
    async with Pipeline(policy) as pipeline:
        decision = await pipeline.judge(content_at(Stage.CODE, "import os\nprint(eval(x))"))
    assert decision.blocked
