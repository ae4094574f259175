"""Python text -> syntax trees, also for fragments, prompts and Python 2.

Knows how snippets are broken; does not know what is dangerous. Nothing is dropped: each line is in a tree or in
`unparsed`.
"""

from __future__ import annotations

import ast
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agentkit.errors import ShieldError
from agentkit.shields.code_shield.lexer import LogicalLine, logical_lines

_MAX_STATEMENTS = 5_000

_warning_filters = threading.Lock()

_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.|In \[\d+\]:)(?: |$)", re.MULTILINE)
_PROMPT_LINE = re.compile(r"^[ \t]*(?:>>>|\.\.\.|In \[\d+\]:) ?(.*)$")
_BRANCH = re.compile(r"(elif|else|except|finally|case|try)\b(.*)", re.DOTALL)
_PRINT = re.compile(r"print\s+(?![=(,.\[])(?:>>\s*[\w.]+\s*,)?(.*)", re.DOTALL)
_EXEC = re.compile(r"exec\s+(?!\()(.*?)(?:\s+in\s+.*)?$", re.DOTALL)
_RAISE = re.compile(r"raise\s+([\w.]+)\s*,\s*(.*)", re.DOTALL)
_EXCEPT_COMMA = re.compile(r"except\s+([\w.()\s,]+?)\s*,\s*(\w+)\s*:(.*)", re.DOTALL)
_OLD_OCTAL = re.compile(r"(?<![\w.])0([0-7]+)\b(?![.\w])")
_SHELL_LINE = re.compile(r"[ \t]*[!%]\s*(\w.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSource:
    """The statements that could be parsed, in order with their line numbers, and the lines that could not."""

    statements: list[ast.stmt]
    unparsed: list[LogicalLine]


def parse_source(text: str) -> ParsedSource:
    """Parse Python, as much of it as there is.

    Raises:
        ShieldError: if so many lines are broken that parsing them one by one would take too long.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", " ")
    with _quiet():
        whole = _parse_whole(text)
        if whole is not None:
            return whole
        if not _PROMPT.search(text):
            return _parse_by_statement(text)
        # A prompt somewhere does not make the other lines output: they are judged too.
        session, rest = _split_prompts(text)
        parsed = _parse_whole(session) or _parse_by_statement(session)
        return ParsedSource(
            statements=parsed.statements + _statements(rest).statements, unparsed=parsed.unparsed
        )


def parse_program(text: str) -> list[ast.stmt] | None:
    """Return the statements of a whole program, or None if it is none."""
    with _quiet():
        return _parse(text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings about the code that is judged (invalid escapes and the like) from our own users.

    Python's filters are global: one thread at a time changes them.
    """
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _split_prompts(text: str) -> tuple[str, str]:
    """Return the lines with a prompt, without it, and the other lines; what is left out is blank."""
    lines = text.split("\n")
    matches = [_PROMPT_LINE.match(line) for line in lines]
    session = "\n".join(match[1] if match else "" for match in matches)
    return session, "\n".join("" if match else line for line, match in zip(lines, matches, strict=True))


def _parse_whole(text: str) -> ParsedSource | None:
    for candidate in (text, textwrap.dedent(text.expandtabs(8))):
        statements = _parse(candidate)
        if statements is not None:
            return ParsedSource(statements=statements, unparsed=[])
    return None


def _parse(text: str) -> list[ast.stmt] | None:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _parse_by_statement(text: str) -> ParsedSource:
    readings = [_statements(text)]
    if readings[0].unparsed and ('"""' in text or "'''" in text):
        # The snippet may begin or end inside a docstring: its quotes are read the other way round too, and whatever
        # any reading shows is judged.
        readings += (_statements(other) for other in _requoted(text))
    clearest = min(readings, key=lambda parsed: sum(len(line.code.split()) for line in parsed.unparsed))
    return ParsedSource(
        statements=[statement for parsed in readings for statement in parsed.statements],
        unparsed=clearest.unparsed,
    )


def _requoted(text: str) -> tuple[str, str]:
    """Return the text without what is before its first triple quote, and without its last triple quote."""
    first, quote = min((text.find(quote), quote) for quote in ('"""', "'''") if quote in text)
    last = text.rfind(quote)
    return "\n" * text.count("\n", 0, first) + text[first + 3 :], text[:last] + text[last + 3 :]


def _statements(text: str) -> ParsedSource:
    statements: list[ast.stmt] = []
    unparsed: list[LogicalLine] = []
    lines = logical_lines(text)
    if len(lines) > _MAX_STATEMENTS:
        raise ShieldError(
            f"Python that does not parse is judged up to {_MAX_STATEMENTS} lines, this has {len(lines)}"
        )
    for line in lines:
        if not line.code.strip() and not line.text.strip().startswith(("'", '"')):
            continue
        parsed = _parse_statement(line)
        if parsed is None:
            unparsed.append(line)
            continue
        for statement in parsed:
            ast.increment_lineno(statement, line.line - 1)
        statements += parsed
    return ParsedSource(statements=statements, unparsed=unparsed)


def _parse_statement(line: LogicalLine) -> list[ast.stmt] | None:
    for reading in _readings(line.text.strip().rstrip(";"), line.unclosed):
        parsed = _parse(reading)
        if parsed is not None:
            return parsed
    return None


def _readings(text: str, unclosed: str) -> list[str]:
    """Return what a statement may mean when it stands alone, or in Python 2: the likeliest first."""
    readings = [text, f"{text}\n pass", f"{text}\ndef _(): pass"]
    if text.endswith(":"):
        readings = [f"{text}\n pass"]
    if unclosed:
        readings += [text.rstrip(", \n") + unclosed, f"{text.rstrip(', ')}{unclosed}:\n pass"]
    text_without_extra = text.lstrip(")]}, ")
    if text_without_extra != text:
        readings += [text_without_extra, f"{text_without_extra}\n pass"]
    if _OLD_OCTAL.search(text):
        readings.append(_OLD_OCTAL.sub(r"0o\1", text))
    if match := _EXCEPT_COMMA.match(text):
        readings.append(f"try: pass\nexcept {match[1]}:{match[3] or ' pass'}")
    if match := _BRANCH.match(text):
        readings += _branches(match[1], match[2])
    if match := _PRINT.match(text):
        readings += [f"print({match[1]})", f"print({match[1].rstrip(', ')}{unclosed})"]
    if match := _EXEC.match(text):
        readings.append(f"exec({match[1]})")
    if match := _RAISE.match(text):
        readings.append(f"raise {match[1]}({match[2]})")
    if match := _SHELL_LINE.match(text):
        readings.append(f"os.system({match[1]!r})")
    # One line of a call or a dictionary that the snippet cuts through.
    readings += [f"_({text.rstrip(',')})", f"_(*[{text.rstrip(',')}])", "_({" + text.rstrip(",") + "})"]
    if text.count(")") > text.count("("):
        readings.append("_(" + text)
    return readings


def _branches(word: str, rest: str) -> list[str]:
    if word == "elif":
        return [f"if{rest}", f"if{rest}\n pass"]
    if word == "case":
        return [f"match _:\n case{rest}", f"match _:\n case{rest}\n  pass"]
    if word == "except":
        return [f"try: pass\nexcept{rest}", f"try: pass\nexcept{rest} pass"]
    body = rest.lstrip(" \t:")
    return [body] if body else ["pass"]
