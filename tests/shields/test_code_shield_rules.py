"""Every rule is run on the examples that stand beside it."""

import re

import pytest

from agentkit.shields.code_shield import scan_code
from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.pattern_rules import PatternRule, read_rules, rules_of
from agentkit.shields.code_shield.prefilter import needed_words
from agentkit.shields.code_shield.rules import Rule, load_rules

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
    "commands": Language.JAVASCRIPT,
    "shared": Language.JAVASCRIPT,
}
PATTERN_RULES = [
    (rule, language)
    for name, language in FILES.items()
    for rule in read_rules(name, ignore_case=rules_of(language).ignore_case)
]
RULES = [
    pytest.param(rule, language, id=f"{language}-{rule.name}")
    for rule, language in (
        *((rule, Language.PYTHON) for rule in load_rules().rules.values()),
        *((rule.rule, language) for rule, language in PATTERN_RULES),
    )
]


def broken(code: str, language: Language) -> set[str]:
    return {issue.rule for issue in scan_code(code, language)}


@pytest.mark.parametrize(("rule", "language"), RULES)
def test_a_rule_tells_its_insecure_examples_from_its_sound_ones(rule: Rule, language: Language):
    assert rule.insecure
    assert rule.sound
    assert [code for code in rule.insecure if rule.name not in broken(code, language)] == []
    assert [code for code in rule.sound if rule.name in broken(code, language)] == []


@pytest.mark.parametrize(("rule", "language"), RULES)
def test_a_rule_says_what_to_do(rule: Rule, language: Language):
    assert re.fullmatch(r"CWE-\d+", rule.cwe)
    assert rule.message
    assert rule.hint


def test_no_two_rules_of_a_language_have_one_name():
    names = [rule.rule.name for rule, _ in PATTERN_RULES]

    assert len(names) == len(set(names))


def test_a_rule_is_about_calls_or_about_a_pattern_unless_the_analyser_finds_it():
    for rule, language in PATTERN_RULES:
        kinds = bool(rule.rule.calls) + (rule.pattern is not None)
        assert kinds == (0 if rule.rule.name in rules_of(language).others else 1)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (r"\bstrcpy\s*\(", {"strcpy"}),
        (r"\b(?:foo|barbaz)\s", {"foo", "barbaz"}),
        (r"(?:foo|b)x", set()),
        (r"(?:foo)?bar", {"bar"}),
        (r"(?:foo)+", {"foo"}),
        (r"[ab]cde", {"cde"}),
        (r"(?=alpha)\w+", {"alpha"}),
        (r"(?!alpha)\w+", set()),
        (r"(?i:foo)", set()),
    ],
)
def test_the_words_that_an_expression_needs_are_read_from_it(expression: str, words: set[str]):
    assert needed_words(expression, re.RegexFlag(0)) == words


def test_words_are_in_lower_case_where_case_is_ignored():
    assert needed_words("DROP|Grant", re.IGNORECASE) == {"drop", "grant"}


@pytest.mark.parametrize(
    ("rule", "language"), PATTERN_RULES, ids=[rule.rule.name for rule, _ in PATTERN_RULES]
)
def test_whatever_a_pattern_matches_holds_one_of_its_words(rule: PatternRule, language: Language):
    if rule.pattern is None or not rule.pattern.words:
        return
    for code in (*rule.rule.insecure, *rule.rule.sound):
        for match in rule.pattern.expression.finditer(code):
            around = code.lower() if rules_of(language).ignore_case else code
            assert any(word in around for word in rule.pattern.words), match


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


@pytest.mark.parametrize("language", Language)
def test_a_written_key_is_found_in_every_language(language: Language):
    assert "hardcoded-secret" in broken('key = "AKIA' + "ABCDEFGHIJKLMNOP" + '"', language)
