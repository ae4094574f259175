"""The shield `code_shield`: flags insecure code, also in tool calls and in the code blocks of other text.

Code in a language without rules is reported as unanalysed, and is not flagged.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import anyio.to_thread

from agentkit.errors import ShieldError
from agentkit.messages import MODEL
from agentkit.shields.base import Finding, ShieldInput, Stage, Verdict
from agentkit.shields.code_shield.extract import CodePart, code_parts
from agentkit.shields.code_shield.rules import Issue, Severity
from agentkit.shields.code_shield.scan import load_all_rules, scan_code
from agentkit.shields.registry import register_shield
from agentkit.shields.self_test import KnownTexts

MAX_CHARACTERS = 200_000


@register_shield("code_shield")
class CodeShield:
    """Flags code with an issue of severity `block_at` or worse. The category is the worst issue's CWE."""

    def __init__(self, *, block_at: Literal["info", "warning", "error"] = "error") -> None:
        self.block_at = Severity(block_at)

    async def start(self) -> None:
        """Load the rules that ship in the package."""
        await anyio.to_thread.run_sync(load_all_rules)

    async def check(self, content: ShieldInput) -> Verdict:
        """Judge one piece of content.

        Raises:
            ShieldError: if it is longer than `MAX_CHARACTERS`, or made so that judging would take too long.
        """
        if len(content.text) > MAX_CHARACTERS:
            raise ShieldError(
                f"code_shield judges up to {MAX_CHARACTERS} characters, the content has {len(content.text)}"
            )
        judge = partial(
            _judge,
            content.text,
            stage=content.stage,
            language=content.language,
            block_at=self.block_at,
        )
        return await anyio.to_thread.run_sync(judge, abandon_on_cancel=True)

    async def close(self) -> None:
        """Nothing to free."""

    def known_texts(self) -> KnownTexts:
        """Return code that runs what a user types as a command, and a sum."""
        bad, good = (
            ShieldInput(text=text, stage=Stage.CODE, provenance=MODEL, language="python")
            for text in ("import os\nos.system(input())", "print(sum(range(10)))")
        )
        return KnownTexts(bad=(bad,), good=(good,))


def _judge(text: str, *, stage: Stage, language: str | None, block_at: Severity) -> Verdict:
    parts = list(code_parts(text, stage=stage, language=language))
    located = [
        (issue, part) for part in parts for issue in _issues(part) if issue.severity.rank >= block_at.rank
    ]
    if located:
        return flagged_verdict(text, located)
    unknown = [part.label or "unknown" for part in parts if not part.languages]
    if unknown:
        return Verdict(
            flagged=False,
            judged=False,
            category="unanalysed",
            reason=f"language not analysed: {', '.join(sorted(set(unknown)))}",
        )
    return Verdict(flagged=False)


def _issues(part: CodePart) -> list[Issue]:
    """Return the issues in a part, whichever of its languages it is in."""
    found = {issue for language in part.languages for issue in scan_code(part.code, language)}
    return sorted(found, key=lambda issue: (issue.line, issue.rule))


def flagged_verdict(text: str, located: list[tuple[Issue, CodePart]]) -> Verdict:
    """Return the verdict about a text with issues in parts of it: the worst one names it, all are marked."""
    worst = max((issue for issue, _ in located), key=lambda issue: issue.severity.rank)
    rules = list(dict.fromkeys(f"{issue.rule} ({issue.cwe}, {issue.severity})" for issue, _ in located))
    return Verdict(
        flagged=True,
        category=worst.cwe,
        reason=f"line {worst.line}: {worst.message}; {worst.hint}. Found: {', '.join(rules[:5])}",
        findings=tuple(_finding(text, issue, part) for issue, part in located),
    )


def _finding(text: str, issue: Issue, part: CodePart) -> Finding:
    """Return the issue's whole line, in offsets of the whole text; in a tool call the string that holds it."""
    label = f"{issue.cwe} {issue.rule}"
    if text[part.start : part.end] != part.code:
        return Finding(start=part.start, end=part.end, label=label)
    start = part.start
    for _ in range(issue.line - 1):
        newline = text.find("\n", start, part.end)
        if newline < 0:
            break
        start = newline + 1
    end = text.find("\n", start, part.end)
    return Finding(start=start, end=part.end if end < 0 else end, label=label)
