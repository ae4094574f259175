"""Code -> two views of the same length: without comments, and without comments and the insides of strings.

Knows quotes, comments and interpolation of each language; knows no grammar and no rules. One pass over the text: a
literal or comment that is never closed is read as code, so nothing can hide behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from agentkit.shields.code_shield.languages import Language

# What a masked string looks like in the code view: its inside is blank. The second kind has values in it.
PLAIN, FILLED = '"', "`"
_NOT_NEWLINE = re.compile(r"[^\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StringSpan:
    """A string at `[start, end)` with its quotes. `filled` says that values are put in by the language itself."""

    start: int
    end: int
    filled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """`text` has no comments; `code` has neither comments nor what is in strings. Offsets are those of the source."""

    text: str
    code: str
    strings: list[StringSpan]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Syntax:
    """How one language writes comments and strings.

    `openers` finds the next of them, `fills` what in a string puts in a value.
    """

    openers: re.Pattern[str]
    fills: re.Pattern[str] | None = None


_LINE = r"(?P<line>//[^\n]*)"
_BLOCK = r"(?P<block>/\*)"
_DOUBLE = r'(?P<string>"(?:[^"\\\n]|\\.)*+(?:"|(?=\n)|\Z))'
_CHARACTER = r"(?P<character>'(?:[^'\\\n]|\\.[^'\n]{0,8})')"
_SINGLE = r"(?P<single>'(?:[^'\\\n]|\\.)*+(?:'|(?=\n)|\Z))"
_SLASH_REGEX = (
    r"(?P<regex>(?<=[(,=:\[!&|?{};\n])[ \t]{0,4}/(?![/*])"
    r"(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.){0,200}+\]){1,500}+/[a-z]{0,8})"
)
_HEREDOC = r"(?P<heredoc><<[-~<]?[ \t]*(?P<q>[\"']?)(?P<tag>[A-Za-z_]\w*)(?P=q)[^\n]*\n)"


def _syntax(*parts: str, fills: str | None = None) -> _Syntax:
    return _Syntax(
        openers=re.compile("|".join(parts), re.DOTALL), fills=re.compile(fills) if fills is not None else None
    )


_C_LIKE = _syntax(
    _LINE, _BLOCK, r'(?P<raw>\bu?8?[LU]?R"(?P<raw_tag>[^\s()\\"]{0,16})\()', _DOUBLE, _CHARACTER
)
_SYNTAX: dict[Language, _Syntax] = {
    Language.C: _C_LIKE,
    Language.CPP: _C_LIKE,
    Language.CSHARP: _syntax(
        _LINE, _BLOCK, r'(?P<triple>"{3})', r'(?P<verbatim>(?:\$@|@\$?)")', _DOUBLE, _CHARACTER, fills=r"\{\w"
    ),
    Language.JAVA: _syntax(_LINE, _BLOCK, r'(?P<triple>"{3})', _DOUBLE, _CHARACTER),
    Language.JAVASCRIPT: _syntax(_LINE, _BLOCK, _DOUBLE, _SINGLE, r"(?P<template>`)", r"(?P<brace>[{}])", _SLASH_REGEX),
    Language.PHP: _syntax(
        r"(?P<html>\?>)", r"(?P<line>(?://|#(?!\[))[^\n?]*(?:\?(?!>)[^\n?]*)*)", _BLOCK, r'(?P<long>["\'])', _HEREDOC,
        fills=r"\$\w|\{\$",
    ),
    Language.RUST: _syntax(_LINE, _BLOCK, r'(?P<hashes>\bb?r(?P<sharps>#{0,16})")', r'(?P<long>")', _CHARACTER),
    Language.GO: _syntax(_LINE, _BLOCK, _DOUBLE, _CHARACTER, r"(?P<backtick>`)"),
    Language.SHELL: _syntax(
        r"(?P<line>(?:(?<=[\s;&|(])|\A)#[^\n]*)", r"(?P<escaped>\\.)", r'(?P<long>")', r"(?P<bare>')", fills=r"[$`]"
    ),
    Language.SQL: _syntax(
        r"(?P<line>--[^\n]*)", _BLOCK, r"(?P<doubled>')", r"(?P<string>\"[^\"\n]*+\")",
    ),
}  # fmt: skip


_MOST_MISSING = 40
_LONG = {quote: re.compile(rf"(?:[^{quote}\\]|\\.)*+{quote}", re.DOTALL) for quote in ('"', "'")}
_DOUBLED = {quote: re.compile(rf"(?:[^{quote}]|{quote}{quote})*+{quote}") for quote in ('"', "'")}
_TEMPLATE_TEXT = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*+(`|\$\{)", re.DOTALL)


@dataclass(slots=True)
class _Pen:
    """Collects what is blanked. `missing` are closers that were looked for in vain: they are not looked for again.

    `templates` has, for each `${` of JavaScript that is open, how many braces are open in it.
    """

    source: str
    comments: list[tuple[int, int]] = field(default_factory=list)
    strings: list[StringSpan] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    templates: list[int] = field(default_factory=list)

    def close(self, closer: re.Pattern[str], start: int, *, anywhere: bool) -> re.Match[str] | None:
        """Return where a literal ends: at the next match, or right here. A search in vain is made once a closer."""
        if closer.pattern in self.missing or len(self.missing) > _MOST_MISSING:
            return None
        match = closer.search(self.source, start) if anywhere else closer.match(self.source, start)
        if match is None:
            self.missing.add(closer.pattern)
        return match

    def string(self, start: int, end: int, fills: re.Pattern[str] | None = None) -> int:
        """Keep a string, and return its end."""
        filled = fills is not None and fills.search(self.source, start, end) is not None
        self.strings.append(StringSpan(start=start, end=end, filled=filled))
        return end


def view_source(source: str, language: Language) -> SourceView:
    """Return both views of a source."""
    syntax = _SYNTAX[language]
    pen = _Pen(source=source)
    position = _skip_leading_html(pen) if language is Language.PHP else 0
    while match := syntax.openers.search(source, position):
        position = _read(match, pen, syntax)
    text = _blanked(source, pen.comments)
    return SourceView(text=text, code=_masked(text, pen.strings), strings=pen.strings)


def _read(match: re.Match[str], pen: _Pen, syntax: _Syntax) -> int:
    """Note what an opener opens, and return where it ends."""
    start, end = match.span()
    match match.lastgroup:
        case "line":
            pen.comments.append((start, end))
        case "block":
            if closing := pen.close(_literal("*/"), end, anywhere=True):
                pen.comments.append((start, closing.end()))
                return closing.end()
        case "string":
            filled = syntax.fills if pen.source[start - 1 : start] == "$" else None
            return pen.string(start, end, filled)
        case "single" | "character" | "regex":
            return pen.string(start, end)
        case "brace":
            return _read_brace(match[0], pen, start)
        case "template":
            return _read_template(pen, start)
        case "long" | "doubled" | "verbatim":
            closers = _LONG if match.lastgroup == "long" else _DOUBLED
            if closing := pen.close(closers[match[0][-1]], end, anywhere=False):
                is_filled = (match.lastgroup == "long" and match[0] == '"') or "$" in match[0]
                return pen.string(start, closing.end(), syntax.fills if is_filled else None)
        case "html":
            closing = pen.close(_literal("<?"), end, anywhere=True)
            return pen.string(start, closing.start() if closing else len(pen.source))
        case _ if closer := _closer(match):
            if closing := pen.close(closer, end, anywhere=True):
                return pen.string(start, closing.end(), syntax.fills)
    return end


def _closer(match: re.Match[str]) -> re.Pattern[str] | None:
    """Return what closes a string that holds no escapes."""
    match match.lastgroup:
        case "triple":
            return _literal('"' * 3)
        case "backtick":
            return _literal("`")
        case "bare":
            return _literal("'")
        case "raw":
            return _literal(f'){match["raw_tag"]}"')
        case "hashes":
            return _literal(f'"{match["sharps"]}')
        case "heredoc":
            return re.compile(rf"^[ \t]*{match['tag']}\b", re.MULTILINE)
    return None


@lru_cache(maxsize=256)
def _literal(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text))


def _skip_leading_html(pen: _Pen) -> int:
    first = re.search(r"<\?|\?>", pen.source)
    return pen.string(0, first.start()) if first is not None and first[0] == "<?" and first.start() else 0


def _read_template(pen: _Pen, start: int) -> int:
    """Read a template, or what follows a value in it, up to its end or its next value."""
    closing = pen.close(_TEMPLATE_TEXT, start + 1, anywhere=False)
    if closing is None:
        return start + 1
    if closing[1] != "`":
        pen.templates.append(0)
    pen.strings.append(StringSpan(start=start, end=closing.end(), filled=closing[1] != "`"))
    return closing.end()


def _read_brace(brace: str, pen: _Pen, start: int) -> int:
    if pen.templates and brace == "{":
        pen.templates[-1] += 1
    elif pen.templates and pen.templates[-1]:
        pen.templates[-1] -= 1
    elif pen.templates:
        pen.templates.pop()
        return _read_template(pen, start)
    return start + 1


def _blanked(source: str, spans: list[tuple[int, int]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end in spans:
        parts += (source[done:start], _NOT_NEWLINE.sub(" ", source[start:end]))
        done = end
    return "".join([*parts, source[done:]])


def _masked(text: str, strings: list[StringSpan]) -> str:
    parts: list[str] = []
    done = 0
    for string in strings:
        mark = FILLED if string.filled else PLAIN
        inside = _NOT_NEWLINE.sub(" ", text[string.start + 1 : string.end - 1])
        parts += (text[done : string.start], mark, inside, mark if string.end - string.start > 1 else "")
        done = string.end
    return "".join([*parts, text[done:]])
