"""Code in a language other than Python -> the issues in it. Knows how rules are run; what is wrong is in the rules."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from agentkit.shields.code_shield.calls import Arguments, CallTable, read_calls
from agentkit.shields.code_shield.credentials import credentials_in
from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.masking import SourceView, view_source
from agentkit.shields.code_shield.pattern_rules import ANY, LanguageRules, Pattern, PatternRule, rules_of
from agentkit.shields.code_shield.rules import Issue, Rule
from agentkit.shields.code_shield.sql_strings import built_statements

_WORD = re.compile(r"[A-Za-z_]\w*")
_QUALIFIER = re.compile(r"((?:[\w$\])]+[ \t]{0,2}(?:\?\.|\.|->|::|\\)\s{0,4})++)$")
# In PHP a dot joins texts.
_QUALIFIER_OF_PHP = re.compile(r"((?:[\w$\])]+[ \t]{0,2}(?:\?->|->|::|\\)\s{0,4})++)$")
_SEPARATOR = re.compile(r"\s*(?:\?\.|\??->|::|\\|\.)\s*")
_LAST_OF_SEPARATOR = (".", ">", ":", "\\")
_LONGEST_QUALIFIER = 80
_DEFINES = re.compile(r"\b(?:function|func|fn|def)\s+$")
_TYPE_BEFORE = re.compile(
    r"(?:^|[\s;{}])(?!(?:return|else|do|case|throw|new|await|in|and|or|not)\b)[A-Za-z_][\w:<>]*[\s*&]+$"
)
# Two words, or a word and a star: a type and a name. A call that passes a product is none: nothing typed is before it.
_PARAMETER = re.compile(
    r"\s*+(?:void\s*|\.\.\.\s*|(?!(?:sizeof|new|await)\b)[A-Za-z_]\w*+(?:\s++[A-Za-z_]|\s*+[*&])[\w\s*&\[\]]*+)"
)
_LONGEST_PARAMETER = 120
_LONGEST_STATEMENT = 600
_STATEMENT_END = re.compile(r"[;\n]")
# Calling through these is calling the function itself.
_TRANSPARENT = frozenset({"", "std.", "global.", "globalThis.", "window.", "self."})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A source, its views, and what was found out about it once."""

    language: Language
    view: SourceView
    calls: CallTable
    rules: LanguageRules


def scan_patterns(source: str, language: Language) -> list[Issue]:
    """Return the issues in a piece of code, by line. Fragments and broken code are judged too."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", " ")
    view = view_source(source, language)
    reading = _Reading(language=language, view=view, calls=read_calls(view.code), rules=rules_of(language))
    line_starts = [0, *(match.end() for match in re.finditer("\n", source))]
    issues = {Issue.of(rule, bisect_right(line_starts, at)) for rule, at in _broken_rules(reading)}
    return sorted(issues, key=lambda issue: (issue.line, -issue.severity.rank, issue.rule))


def _broken_rules(reading: _Reading) -> Iterator[tuple[Rule, int]]:
    """Yield the rules that are broken, and at which offsets."""
    yield from _broken_by_calls(reading)
    for pattern, rule in reading.rules.patterns:
        for at in _matches(pattern, rule, reading):
            yield rule.rule, at
    for name, at in credentials_in(reading.view.text):
        yield reading.rules.others[name], at
    for at in built_statements(reading.view):
        yield reading.rules.others["sql-built"], at


def _broken_by_calls(reading: _Reading) -> Iterator[tuple[Rule, int]]:
    code, by_name = reading.view.code, reading.rules.by_name
    for word in _WORD.finditer(code):
        candidates = by_name.get(word[0].lower() if reading.rules.ignore_case else word[0])
        arguments = reading.calls.arguments(word.end()) if candidates else None
        if candidates is None or arguments is None or _is_declared(code, word.start(), arguments):
            continue
        qualifier = _qualifier(reading, word.start())
        for call, rule in candidates:
            if _is_called(call, qualifier) and _call_applies(rule, reading, word.start(), arguments):
                yield rule.rule, word.start()


def _is_declared(code: str, start: int, arguments: Arguments) -> bool:
    """Say whether a function of this name is declared here, not called: `function f(`, `char *f(const char *a)`."""
    before = code[max(0, start - _LONGEST_QUALIFIER) : start]
    if _DEFINES.search(before):
        return True
    spans = [code[first : min(last, first + _LONGEST_PARAMETER)] for first, last in arguments.spans]
    return bool(spans) and _TYPE_BEFORE.search(before) is not None and all(map(_PARAMETER.fullmatch, spans))


def _qualifier(reading: _Reading, start: int) -> str:
    """Return what stands before a name, with dots between its parts: `a->b::` becomes `a.b.`."""
    before = reading.view.code[max(0, start - _LONGEST_QUALIFIER) : start]
    if not before.rstrip().endswith(_LAST_OF_SEPARATOR):
        return ""
    is_php = reading.language is Language.PHP
    match = (_QUALIFIER_OF_PHP if is_php else _QUALIFIER).search(before)
    if match is not None:
        qualifier = _SEPARATOR.sub(".", match[1])
        return qualifier.lower() if reading.rules.ignore_case else qualifier
    # What is called on is too long to read, or ends in a bracket.
    return "." if before.rstrip().endswith(("->",) if is_php else ("->", ".")) else ""


def _is_called(call: str, qualifier: str) -> bool:
    """Say whether a rule's `name`, `.name` (of anything) or `owner.name` is what is called."""
    owner = call[: call.rfind(".") + 1]
    if not owner:
        return qualifier in _TRANSPARENT
    return bool(qualifier) if owner == "." else f".{qualifier}".endswith(f".{owner}")


def _call_applies(rule: PatternRule, reading: _Reading, start: int, arguments: Arguments) -> bool:
    for wanted, meant in ((rule.unknown, True), (rule.constant, False)):
        if wanted is None:
            continue
        spans = arguments.spans if wanted == ANY else arguments.spans[wanted : wanted + 1]
        is_unknown = any(reading.calls.is_unknown(*span) for span in spans)
        if not spans or is_unknown is not meant:
            return False
    return _surroundings_apply(rule, reading, start, min(arguments.end + 1, start + _LONGEST_STATEMENT))


def _matches(pattern: Pattern, rule: PatternRule, reading: _Reading) -> Iterator[int]:
    searched = reading.view.text if pattern.sees_strings else reading.view.code
    words_in = searched.lower() if reading.rules.ignore_case else searched
    if pattern.words and not any(word in words_in for word in pattern.words):
        return
    for match in pattern.expression.finditer(searched):
        end = min(_end_of_statement(reading, match), match.end() + _LONGEST_STATEMENT)
        is_unknown = reading.calls.is_unknown(match.end(), end)
        if (rule.unknown is not None and not is_unknown) or (rule.constant is not None and is_unknown):
            continue
        if _surroundings_apply(rule, reading, match.start(), end):
            # White space before the match may be on the line before.
            yield match.end() - len(match[0].lstrip())


def _end_of_statement(reading: _Reading, match: re.Match[str]) -> int:
    """Return where the call that a match opens ends, or else the statement."""
    opened = reading.calls.lists.get(match.end() - 1) if match[0].endswith("(") else None
    if opened is not None:
        return opened.end
    stop = _STATEMENT_END.search(match.string, match.end())
    return stop.start() if stop else len(match.string)


def _surroundings_apply(rule: PatternRule, reading: _Reading, start: int, end: int) -> bool:
    text = reading.view.text
    statement = text[start:end]
    if rule.having is not None and rule.having.search(statement) is None:
        return False
    if rule.unless is not None and rule.unless.search(statement) is not None:
        return False
    if rule.line is not None and rule.line.search(_line_at(text, start)) is None:
        return False
    if rule.beside is not None and rule.beside.search(text) is None:
        return False
    return rule.without is None or rule.without.search(text) is None


def _line_at(text: str, at: int) -> str:
    """Return the line around an offset, as far as it is of a length that somebody wrote."""
    start = max(text.rfind("\n", 0, at) + 1, at - _LONGEST_STATEMENT)
    end = text.find("\n", at)
    return text[start : min(end if end >= 0 else len(text), at + _LONGEST_STATEMENT)]
