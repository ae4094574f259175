"""The shield `semgrep`: a second layer over `code_shield`, with rules of one's own, run by a pinned semgrep.

Knows where code is in a text and what semgrep said of it; how semgrep is run is in `semgrep_process`. Nothing counts
as read that semgrep did not say it read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.messages import MODEL
from agentkit.shields.base import ShieldInput, Stage, Verdict
from agentkit.shields.code_shield.extract import CodePart, code_parts
from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.rules import Severity
from agentkit.shields.code_shield.shield import flagged_verdict
from agentkit.shields.registry import register_shield
from agentkit.shields.self_test import KnownTexts
from agentkit.shields.semgrep_process import Report, SemgrepProcess

MAX_CHARACTERS = 200_000

# What the file of a language is called, from which semgrep knows the language.
_SUFFIXES: dict[Language, str] = {
    Language.PYTHON: ".py",
    Language.C: ".c",
    Language.CPP: ".cpp",
    Language.CSHARP: ".cs",
    Language.JAVA: ".java",
    Language.JAVASCRIPT: ".ts",
    Language.PHP: ".php",
    Language.RUST: ".rs",
    Language.GO: ".go",
    Language.SHELL: ".sh",
    Language.SQL: ".sql",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A part of the content as one language, in a file of its own."""

    part: CodePart
    name: str


@register_shield("semgrep")
class Semgrep:
    """Flags code that breaks one of the rules in the file or folder `rules`, at `block_at` or worse.

    `executable` is the program, where it is not the one that was installed with `agentkit[semgrep]`; it must be of
    `version`. `bad_example` is a file that the
    rules must find something in, and `good_example` one that they must not: published rule sets match nothing at all
    without a word, and so the shield refuses to start where these two are not told apart.
    """

    def __init__(
        self,
        *,
        rules: Annotated[str, Field(min_length=1)],
        bad_example: Annotated[str, Field(min_length=1)],
        good_example: Annotated[str, Field(min_length=1)],
        executable: Annotated[str, Field(min_length=1)] | None = None,
        version: str = "1.79.0",
        block_at: Literal["info", "warning", "error"] = "error",
    ) -> None:
        # Never what a search path leads to: the program beside this interpreter, or the one that is named.
        program = Path(sys.executable).with_name("semgrep") if executable is None else Path(executable)
        self._process = SemgrepProcess(executable=program, rules=Path(rules), version=version)
        self._examples = (Path(bad_example), Path(good_example))
        self._block_at = Severity(block_at)
        self._known: KnownTexts | None = None

    async def start(self) -> None:
        """Find the program, the rules and the examples.

        Raises:
            ConfigurationError: if one is missing, or semgrep is of another version.
        """
        await self._process.check_version()
        bad, good = [await anyio.to_thread.run_sync(_example, path) for path in self._examples]
        self._known = KnownTexts(bad=(bad,), good=(good,))

    async def check(self, content: ShieldInput) -> Verdict:
        """Judge one piece of content.

        Raises:
            ShieldError: if semgrep failed, could not read some of the code, or the content is too long.
        """
        if len(content.text) > MAX_CHARACTERS:
            raise ShieldError(
                f"semgrep judges up to {MAX_CHARACTERS} characters, the content has {len(content.text)}"
            )
        parts = list(code_parts(content.text, stage=content.stage, language=content.language))
        readings = [
            _Reading(part=part, name=f"{index}_{language}{_SUFFIXES[language]}")
            for index, part in enumerate(parts)
            for language in part.languages
        ]
        if not readings:
            return Verdict(flagged=False, judged=not parts)
        report = await self._process.scan({reading.name: reading.part.code for reading in readings})
        _check_read(report, parts, readings)
        located = [
            (issue, reading.part)
            for reading in readings
            for issue in report.issues.get(reading.name, ())
            if issue.severity.rank >= self._block_at.rank
        ]
        if located:
            return flagged_verdict(content.text, located)
        return Verdict(flagged=False, judged=any(reading.name in report.read for reading in readings))

    async def close(self) -> None:
        """Nothing to free: every check ends its process."""

    def known_texts(self) -> KnownTexts:
        """Return the examples that the policy names.

        Raises:
            ShieldError: if the shield is not started.
        """
        if self._known is None:
            raise ShieldError("semgrep is not started")
        return self._known


def _check_read(report: Report, parts: Sequence[CodePart], readings: Sequence[_Reading]) -> None:
    """Raise ShieldError unless every part could be read as one of its languages, or the rules are not about it."""
    for part in parts:
        names = [reading.name for reading in readings if reading.part is part]
        if names and all(name in report.unreadable for name in names):
            raise ShieldError(f"semgrep could not read {len(part.code)} characters of code to their end")


def _example(path: Path) -> ShieldInput:
    language = next((one for one, suffix in _SUFFIXES.items() if suffix == path.suffix), None)
    if language is None:
        raise ConfigurationError(
            f"semgrep: the example {path} must end in one of {', '.join(_SUFFIXES.values())}"
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"semgrep: the example {path} cannot be read: {type(exc).__name__}") from exc
    return ShieldInput(text=text, stage=Stage.CODE, provenance=MODEL, language=language.value)
