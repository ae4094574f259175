"""Where in a text there is code, and in which language. Knows fences, tool calls and the look of code, no rules."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentkit.shields.base import Stage
from agentkit.shields.code_shield.languages import Language, known_language, likely_languages
from agentkit.shields.code_shield.source import parse_program

_FENCE = re.compile(r"^[ \t]{0,8}(`{3,}|~{3,})[ \t]*([\w+#.-]{0,30})[^\n]*\n", re.MULTILINE)
# Blocks that are no program: what they show is judged as text elsewhere.
_NO_CODE_NAMES = "text txt plain plaintext json yaml yml toml xml html markdown md csv diff"
_NO_CODE = frozenset(_NO_CODE_NAMES.split())
_PYTHON_LINE = re.compile(
    r"[ \t]*(?:>>> |from [\w.]+ import |import [\w.]+(?:\s*$|\s+as\s|,)|(?:async )?def \w+\(|class \w+[(:]|@\w|"
    r"(?:if|elif|while|for|with|try|except|else)\b.*:\s*$|return\b|print\(|\w[\w.]*\s*=\s*\S|\w[\w.]*\(.*\)\s*$)"
)
_PYTHON_ONLY = re.compile(
    r"^[ \t]*(?:>>> |from [\w.]+ import |import [\w.]+[ \t]*$|(?:async )?def \w+\(|class \w+[(:]|elif .{1,200}:|"
    r"(?:if|for|while|with|try|except)\b.{0,200}:[ \t]*$|raise \w+|lambda )",
    re.MULTILINE,
)
_LONGEST_LINE = 300
# What most lines of a program look like, and hardly one of prose.
_CODE_LINE = re.compile(
    r".*[;{}(\[]\s*$|\s*(?:\$ |<\?|[})\]])|\s*(?:if|while|for)\b.*(?:\)|then|do)\s*$|\s*(?:then|fi|done|else|esac)\b|"
    r"\s*(?:sudo|curl|wget|rm|chmod|export|eval|bash|sh|nc|dd|cd|mkdir|echo|apt-get|docker|git)\s+[-\w\"'$/.~]|"
    r"\s*[\w.$\[\]>-]+\s*(?:=|:=|\+=)\s*\S|\s*[\w.$>:-]+\(.*\)\s*$|"
    r"\s*(?:(?i:select|insert|update|delete|from|where|create|drop|grant|values|set|alter|copy|exec))\b.*"
)
_COMMENT_LINE = re.compile(r"\s*(?:#|//|/?\*|--)")
_CODE_SHARE = 0.6
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
# One sign of a language is enough where code is expected; an answer that nobody called code must show two.
_EXPECTED, _UNEXPECTED = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePart:
    """Code, where it stands in a text, and the languages that it is or may be in.

    In a tool call the code is what the JSON string at `[start, end)` means. `languages` is empty where the code has
    another one, or none that shows; `label` is what it was called.
    """

    start: int
    end: int
    code: str
    languages: tuple[Language, ...]
    label: str | None = None


def code_parts(text: str, *, stage: Stage, language: str | None) -> Iterator[CodePart]:
    """Yield the code in a text: all of it where the caller says so, else its blocks, else the whole if it looks so."""
    if stage is Stage.CODE and language is not None:
        yield _part(text, 0, len(text), language)
        return
    fences = fenced_parts(text)
    if fences:
        yield from fences
    elif stage is Stage.CODE:
        # Code is judged as Python where nothing says what it is.
        languages = languages_of(text) or (Language.PYTHON,)
        yield CodePart(start=0, end=len(text), code=text, languages=languages)
    elif languages := _languages_of_whole(text, _UNEXPECTED):
        yield CodePart(start=0, end=len(text), code=text, languages=languages)
    if stage is Stage.TOOL_CALL:
        yield from _argument_parts(text)


def fenced_parts(text: str) -> list[CodePart]:
    """Return the fenced blocks of a Markdown text; a block that is never closed ends with the text."""
    parts: list[CodePart] = []
    position = 0
    while opening := _FENCE.search(text, position):
        closing = re.compile(rf"^[ \t]{{0,8}}{re.escape(opening[1])}[`~]*[ \t]*$", re.MULTILINE).search(
            text, opening.end()
        )
        end = closing.start() if closing else len(text)
        name = opening[2].lower()
        if name not in _NO_CODE:
            parts.append(_part(text, opening.end(), end, name or None))
        position = closing.end() if closing else len(text)
    return parts


def _part(text: str, start: int, end: int, label: str | None) -> CodePart:
    """Return a part whose language its label says or, without a label, its content."""
    code = text[start:end]
    known = known_language(label)
    languages = languages_of(code) if label is None else (known,) if known else ()
    return CodePart(start=start, end=end, code=code, languages=languages, label=label)


def _argument_parts(call: str) -> Iterator[CodePart]:
    """Yield the strings in the JSON of a tool call that are code."""
    for match in _JSON_STRING.finditer(call):
        try:
            value = json.loads(match[0])
        except ValueError:
            continue
        for part in fenced_parts(value) or [
            CodePart(start=0, end=0, code=value, languages=_languages_of_whole(value, _EXPECTED))
        ]:
            if part.languages:
                yield CodePart(
                    start=match.start(),
                    end=match.end(),
                    code=part.code,
                    languages=part.languages,
                    label=part.label,
                )


def languages_of(code: str, *, least: int = _EXPECTED) -> tuple[Language, ...]:
    """Return the languages that code without a label may be in; none where fewer than `least` signs say so."""
    likely = likely_languages(code, least=least)
    if parses_as_program(code):
        # `run(eval(x))` is Python and other languages too, as long as nothing in it is Python alone.
        return (Language.PYTHON,) if _PYTHON_ONLY.search(code) else (Language.PYTHON, *likely)
    if looks_like_python(code):
        return (Language.PYTHON, *likely[:1])
    return (*likely, Language.PYTHON) if _PYTHON_ONLY.search(code) else likely


def looks_like_python(text: str) -> bool:
    """Say whether most lines of a text look like Python, parsed or not."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return _PYTHON_ONLY.search(text) is not None and _share(_PYTHON_LINE, lines) >= 0.5


def parses_as_program(text: str) -> bool:
    """Say whether a text is a Python program that does something."""
    body = parse_program(text) or []
    return any(
        not isinstance(statement, ast.Expr) or isinstance(statement.value, ast.Call) for statement in body
    )


def _languages_of_whole(text: str, least: int) -> tuple[Language, ...]:
    """Return the languages of a text that is code as a whole, though nobody says so; none for prose."""
    languages = languages_of(text, least=least)
    if languages[:1] == (Language.PYTHON,):
        return languages
    lines = [line for line in text.split("\n") if line.strip() and not _COMMENT_LINE.match(line)]
    return languages if languages and _share(_CODE_LINE, lines) >= _CODE_SHARE else ()


def _share(pattern: re.Pattern[str], lines: list[str]) -> float:
    """Return the share of lines that look as the pattern says."""
    return sum(pattern.match(line[:_LONGEST_LINE]) is not None for line in lines) / max(len(lines), 1)
