"""Where in a text there is code, and in which language. Knows fences and the look of Python; judges nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentkit.shields.code_shield.source import parse_program

_FENCE = re.compile(r"^[ \t]{0,8}(`{3,}|~{3,})[ \t]*([\w+#.-]{0,30})[^\n]*\n", re.MULTILINE)
_PYTHON_NAMES = frozenset(
    {"python", "py", "python3", "python2", "py3", "ipython", "pycon", "python-repl", "pyi"}
)
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
_FOREIGN = re.compile(
    r"^\s*(?:#include\b|<\?php|package \w+|import java|using \w[\w.]*;|fn \w+\(|func \w+\(|public (?:class|static)|"
    r"(?:const|let|var) \w+\s*=|function \w*\(|#!.*\b(?:ba|z)?sh\b|\$ \w)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePart:
    """Code at `[start, end)` of a text. `language` is `python`, another name, or None where nothing says."""

    start: int
    end: int
    language: str | None


def python_name(language: str | None) -> bool:
    """Say whether a language's name means Python."""
    return language is not None and language.strip().lower() in _PYTHON_NAMES


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
            parts.append(
                CodePart(start=opening.end(), end=end, language=_language(name, text[opening.end() : end]))
            )
        position = closing.end() if closing else len(text)
    return parts


def _language(name: str, code: str) -> str | None:
    if python_name(name):
        return "python"
    if name:
        return name
    return "python" if looks_like_python(code) else None


def looks_like_python(text: str) -> bool:
    """Say whether a text without a label is Python: it parses and does something, or most of its lines look so."""
    if _parses_as_program(text):
        return True
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if not lines or _FOREIGN.search(text):
        return False
    return _PYTHON_ONLY.search(text) is not None and sum(map(_is_python_line, lines)) >= 0.5 * len(lines)


def _is_python_line(line: str) -> bool:
    return _PYTHON_LINE.match(line[:_LONGEST_LINE]) is not None


def _parses_as_program(text: str) -> bool:
    body = parse_program(text) or []
    return any(
        not isinstance(statement, ast.Expr) or isinstance(statement.value, ast.Call) for statement in body
    )


def code_parts(text: str, *, is_code: bool, language: str | None) -> Iterator[CodePart]:
    """Yield the code in a text: all of it where the caller says so, else its blocks, else the whole if it looks so."""
    fences = fenced_parts(text)
    if not is_code:
        yield from fences
        if not fences and looks_like_python(text):
            yield CodePart(start=0, end=len(text), language="python")
        return
    if language is not None:
        yield CodePart(start=0, end=len(text), language="python" if python_name(language) else language)
    elif fences:
        yield from fences
    else:
        # Unlabelled code is judged as Python unless it is plainly something else.
        foreign = _FOREIGN.search(text) is not None and not looks_like_python(text)
        yield CodePart(start=0, end=len(text), language=None if foreign else "python")
