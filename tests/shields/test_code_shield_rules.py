"""Every rule for a language other than Python is run on the examples that stand beside it."""

import pytest

from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.pattern_rules import PatternRule, read_rules, rules_of
from agentkit.shields.code_shield.pattern_scan import scan_patterns

FILES = {
    "c": Language.C,
    "cpp": Language.CPP,
    "csharp": Language.CSHARP,
    "java": Language.JAVA,
    "javascript": Language.JAVASCRIPT,
    "php": Language.PHP,
    "rust": Language.RUST,
    "go": Language.GO,
    "shell": Language.SHELL,
    "sql": Language.SQL,
}
RULES = [
    pytest.param(rule, language, id=rule.rule.name)
    for name, language in FILES.items()
    for rule in read_rules(name, ignore_case=rules_of(language).ignore_case)
]


def broken(code: str, language: Language) -> set[str]:
    return {issue.rule for issue in scan_patterns(code, language)}


@pytest.mark.parametrize(("rule", "language"), RULES)
def test_a_rule_tells_its_insecure_examples_from_its_sound_ones(rule: PatternRule, language: Language):
    assert rule.insecure
    assert rule.sound
    assert [code for code in rule.insecure if rule.rule.name not in broken(code, language)] == []
    assert [code for code in rule.sound if rule.rule.name in broken(code, language)] == []


@pytest.mark.parametrize(("rule", "language"), RULES)
def test_a_rule_says_what_to_do(rule: PatternRule, language: Language):
    assert rule.rule.cwe.startswith("CWE-")
    assert rule.rule.message
    assert rule.rule.hint
    assert bool(rule.calls) != (rule.pattern is not None)


def test_the_names_of_rules_are_unique():
    names = [rule.rule.name for name in FILES for rule in read_rules(name)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ('String q = "select a from b where c = " + id;', Language.JAVA),
        ("const q = `select a from b where c = ${id}`;", Language.JAVASCRIPT),
        ('$q = "select a from b where c = $id";', Language.PHP),
        ("$q = 'select a from b where c = ' . $id;", Language.PHP),
        ('var q = $"delete from a where b = {id}";', Language.CSHARP),
        ('var q = string.Format("delete from a where b = {0}", id);', Language.CSHARP),
        ('q := fmt.Sprintf("delete from a where b = %s", id)', Language.GO),
        ('let q = format!("update a set b = {}", id);', Language.RUST),
        ('sprintf(q, "select a from b where c = %s", id);', Language.C),
        ('String q = "select a " + "from b where c = " + id;', Language.JAVA),
    ],
)
def test_sql_that_is_built_from_values_is_found(code: str, language: Language):
    assert "sql-built" in broken(code, language)


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ('String q = "select a from b where c = ?";', Language.JAVA),
        ('String q = "select a " + "from b";', Language.JAVA),
        ("const q = `select a from b`;", Language.JAVASCRIPT),
        ("$q = 'select a from b where c = $id';", Language.PHP),
        ('log("select one of the " + names);', Language.JAVA),
    ],
)
def test_constant_sql_is_left_alone(code: str, language: Language):
    assert "sql-built" not in broken(code, language)


@pytest.mark.parametrize("language", [language for language in Language if language is not Language.PYTHON])
def test_a_written_key_is_found_in_every_language(language: Language):
    assert "hardcoded-secret" in broken('key = "AKIA' + "ABCDEFGHIJKLMNOP" + '"', language)


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ('apiKey: "a8f5f167f44f4964e6c998dee827110c",', "hardcoded-secret"),
        ('const dbPassword = "hunter";', "hardcoded-password"),
        ('password: "<your password>",', None),
        ("password: config.password,", None),
    ],
)
def test_credentials_are_told_from_placeholders(code: str, rule: str | None):
    found = {name for name in broken(code, Language.JAVASCRIPT) if name.startswith("hardcoded")}

    assert found == ({rule} if rule else set())
