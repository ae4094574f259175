"""Code -> two views of the same length: without comments, and without comments and the insides of strings.

Knows how literals end; knows no grammar and no rules. One pass over the text: a literal or comment that is never closed
is left as code, so that nothing can hide behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.syntax import BEGINS_EXPRESSION, MAY_BEGIN_EXPRESSION, SYNTAX

# What a masked string looks like in the code view: its inside is blank. The second kind has values in it.
PLAIN, FILLED = '"', "`"
_NOT_NEWLINE = re.compile(r"[^\n]")
_MOST_MISSING = 40
_LONGEST_WORD_BEFORE = 24
_OPENS_LITERAL = re.compile(r"[\"'`]|/[/*]")
_LONG = {
    # PHP puts `{$a["b"]}` into a string, quotes and all.
    '"': re.compile(r'(?:\{\$[^{}\n]{0,200}\}|[^"\\]|\\.)*+"', re.DOTALL),
    "'": re.compile(r"(?:[^'\\]|\\.)*+'", re.DOTALL),
}
_DOUBLED = {quote: re.compile(rf"(?:[^{quote}]|{quote}{quote})*+{quote}") for quote in ('"', "'")}
_TEMPLATE_TEXT = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*+(`|\$\{)", re.DOTALL)


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


@dataclass(slots=True)
class _Pen:
    """Collects what is blanked. `missing` are closers that were looked for in vain: they are not looked for again.

    `templates` has, for each `${` of JavaScript that is open, how many braces are open in it. `is_ambiguous` says that
    quotes stand in what may be a regular expression or not, so that nobody can tell which strings begin where.
    """

    source: str
    fills: re.Pattern[str] | None
    comments: list[tuple[int, int]] = field(default_factory=list)
    strings: list[StringSpan] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    templates: list[int] = field(default_factory=list)
    is_ambiguous: bool = False

    def close(self, closer: re.Pattern[str], start: int, *, anywhere: bool) -> re.Match[str] | None:
        """Return where a literal ends: at the next match, or right here. A search in vain is made once a closer."""
        if closer.pattern in self.missing or len(self.missing) > _MOST_MISSING:
            return None
        match = closer.search(self.source, start) if anywhere else closer.match(self.source, start)
        if match is None:
            self.missing.add(closer.pattern)
        return match

    def string(self, start: int, end: int, *, may_be_filled: bool) -> int:
        """Keep a string, and return its end."""
        filled = (
            may_be_filled
            and self.fills is not None
            and self.fills.search(self.source, start, end) is not None
        )
        self.strings.append(StringSpan(start=start, end=end, filled=filled))
        return end


def view_source(source: str, language: Language) -> SourceView:
    """Return both views of a source."""
    syntax = SYNTAX[language]
    pen = _Pen(source=source, fills=syntax.fills)
    position = _skip_leading_html(pen) if language is Language.PHP else 0
    while match := syntax.openers.search(source, position):
        position = _read(match, pen)
    if pen.is_ambiguous or (syntax.doubtful is not None and syntax.doubtful.search(source)):
        return SourceView(text=source, code=source, strings=pen.strings)
    text = _blanked(source, pen.comments)
    return SourceView(text=text, code=_masked(text, pen.strings), strings=pen.strings)


def _read(match: re.Match[str], pen: _Pen) -> int:
    """Note what an opener opens, and return where it ends."""
    start, end = match.span()
    match match.lastgroup:
        case "line":
            pen.comments.append((start, end))
        case "block":
            if closing := pen.close(_literal("*/"), end, anywhere=True):
                pen.comments.append((start, closing.end()))
                return closing.end()
        case "string" if match["shut"]:
            return pen.string(start, end, may_be_filled=pen.source[start - 1 : start] == "$")
        case "single" if match["single_shut"]:
            return pen.string(start, end, may_be_filled=False)
        case "character" | "identifier":
            return pen.string(start, end, may_be_filled=False)
        case "slashed":
            return _read_slashed(match, pen)
        case "brace":
            return _read_brace(match[0], pen, start)
        case "template":
            return _read_template(pen, start)
        case "long" | "long_single" | "doubled" | "verbatim":
            return _read_escaped(match, pen)
        case "html":
            closing = pen.close(_literal("<?"), end, anywhere=True)
            return pen.string(start, closing.start() if closing else len(pen.source), may_be_filled=False)
        case _ if closer := _closer(match):
            if closing := pen.close(closer, end, anywhere=True):
                return pen.string(start, closing.end(), may_be_filled=True)
    return end


def _read_slashed(match: re.Match[str], pen: _Pen) -> int:
    """Blank what is surely a regular expression, step over what may be one, and over the slash of a division."""
    before = pen.source[max(0, match.start() - _LONGEST_WORD_BEFORE) : match.start()]
    if BEGINS_EXPRESSION.search(before):
        return pen.string(match.start(), match.end(), may_be_filled=False)
    if not MAY_BEGIN_EXPRESSION.search(before):
        return match.start() + 1
    pen.is_ambiguous = pen.is_ambiguous or _OPENS_LITERAL.search(match[0]) is not None
    return match.end()


def _read_escaped(match: re.Match[str], pen: _Pen) -> int:
    """Read a string in which its own quote can be written: with a backslash, or twice."""
    quote = match[0][-1]
    closers = _LONG if match.lastgroup in ("long", "long_single") else _DOUBLED
    closing = pen.close(closers[quote], match.end(), anywhere=False)
    if closing is None:
        return match.end()
    return pen.string(
        match.start(), closing.end(), may_be_filled=match.lastgroup == "long" or "$" in match[0]
    )


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
            return re.compile(rf"^[ \t]*+{match['tag']}\b", re.MULTILINE)
    return None


@lru_cache(maxsize=256)
def _literal(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text))


def _skip_leading_html(pen: _Pen) -> int:
    first = re.search(r"<\?|\?>", pen.source)
    if first is None or first[0] != "<?" or not first.start():
        return 0
    return pen.string(0, first.start(), may_be_filled=False)


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
        inside = _NOT_NEWLINE.sub(" ", text[string.start : string.end])
        parts += (text[done : string.start], _quoted(inside, FILLED if string.filled else PLAIN))
        done = string.end
    return "".join([*parts, text[done:]])


def _quoted(blank: str, mark: str) -> str:
    """Put a mark where a string begins and where it ends, but for newlines, which stay."""
    if len(blank) < 2 or blank[0] == "\n" or blank[-1] == "\n":
        return blank
    return f"{mark}{blank[1:-1]}{mark}"
