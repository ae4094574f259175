"""Where in a text there is code, and in which language. Knows fences and the look of code; judges nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentkit.shields.code_shield.languages import Language, known_language, likely_languages
from agentkit.shields.code_shield.source import parse_program

_FENCE = re.compile(r"^[ \t]{0,8}(`{3,}|~{3,})[ \t]*([\w+#.-]{0,30})[^\n]*\n", re.MULTILINE)
# Blocks that are no program: what they show is judged as text elsewhere.
_NO_CODE = frozenset(
    {
        "text",
        "txt",
        "plain",
        "plaintext",
        "json",
        "yaml",
        "yml",
        "toml",
        "xml",
        "html",
        "markdown",
        "md",
        "csv",
        "diff",
    }
)
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
# What hardly a line of prose looks like, and most lines of a program do.
_CODE_LINE = re.compile(
    r".*[;{}(\[]\s*$|\s*(?://|/\*|\*|#|--|\$ |<\?|[})\]])|\s*(?:if|while|for)\b.*(?:\)|then|do)\s*$|"
    r"\s*(?:then|fi|done|else|esac)\b|"
    r"\s*(?:sudo|curl|wget|rm|chmod|export|eval|bash|sh|nc|dd|cd|mkdir|echo|apt-get|docker|git)\s+[-\w\"'$/.~]|\s*[\w.$\[\]>-]+\s*(?:=|:=|\+=)\s*\S|"
    r"\s*(?:select|insert|update|delete|from|where|create|drop|grant|values|set|alter|copy|exec)\b.*|\s*[\w.$>:-]+\(.*\)\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePart:
    """Code at `[start, end)` of a text, and the languages that it is or may be in.

    `languages` is empty where the code has another one, or none that shows; `label` is what it was called.
    """

    start: int
    end: int
    languages: tuple[Language, ...]
    label: str | None = None


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
    if label is None:
        return CodePart(start=start, end=end, languages=languages_of(text[start:end]))
    known = known_language(label)
    return CodePart(start=start, end=end, languages=(known,) if known else (), label=label)


def languages_of(code: str) -> tuple[Language, ...]:
    """Return the languages that code without a label may be in; none where nothing says."""
    likely = likely_languages(code)
    if parses_as_program(code):
        # `run(eval(x))` is Python and other languages too, as long as nothing in it is Python alone.
        return (Language.PYTHON,) if _PYTHON_ONLY.search(code) else (Language.PYTHON, *likely)
    if looks_like_python(code):
        return (Language.PYTHON, *likely[:1])
    return (*likely, Language.PYTHON) if _PYTHON_ONLY.search(code) else likely


def looks_like_python(text: str) -> bool:
    """Say whether most lines of a text look like Python, parsed or not."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return _PYTHON_ONLY.search(text) is not None and sum(map(_is_python_line, lines)) >= 0.5 * len(lines)


def _is_python_line(line: str) -> bool:
    return _PYTHON_LINE.match(line[:_LONGEST_LINE]) is not None


def parses_as_program(text: str) -> bool:
    """Say whether a text is a Python program that does something."""
    body = parse_program(text) or []
    return any(
        not isinstance(statement, ast.Expr) or isinstance(statement.value, ast.Call) for statement in body
    )


def bare_languages(text: str) -> tuple[Language, ...]:
    """Return the languages of a text that is code as a whole, though nobody says so; none for prose."""
    lines = [line[:_LONGEST_LINE] for line in text.split("\n") if line.strip()]
    if not any(map(_CODE_LINE.match, lines)) and not parses_as_program(text):
        return ()
    languages = languages_of(text)
    if languages[:1] == (Language.PYTHON,):
        return languages
    return languages if sum(map(_is_code_line, lines)) >= 0.6 * len(lines) else ()


def _is_code_line(line: str) -> bool:
    return _CODE_LINE.match(line) is not None


def code_parts(text: str, *, is_code: bool, language: str | None) -> Iterator[CodePart]:
    """Yield the code in a text: all of it where the caller says so, else its blocks, else the whole if it looks so."""
    if is_code and language is not None:
        yield _part(text, 0, len(text), language)
        return
    fences = fenced_parts(text)
    if fences:
        yield from fences
    elif is_code:
        # Unlabelled code is judged as Python where nothing says what it is.
        yield CodePart(start=0, end=len(text), languages=languages_of(text) or (Language.PYTHON,))
    elif languages := bare_languages(text):
        yield CodePart(start=0, end=len(text), languages=languages)
