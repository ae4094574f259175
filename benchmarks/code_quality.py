"""How good Code Shield is: recall by language and CWE, false alarms on code and prose that is around, and times.

Part of `python -m benchmarks.shield_quality`. Benign code is Python's standard library and, of other languages, what
this machine has: headers of C in /usr/include, JavaScript and SQL of installed packages, shell scripts in /usr/bin; and
what is in the folder of `--trusted`, by the ends of its files' names: a draw of those, the same each time.
"""

from __future__ import annotations

import random
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agentkit.shields.base import Stage
from agentkit.shields.code_shield import Issue, Language, Severity, scan_code
from agentkit.shields.code_shield.extract import code_parts
from agentkit.shields.code_shield.pattern_rules import rules_of
from agentkit.shields.code_shield.scan import load_all_rules
from benchmarks.fit_instruction_override import read_rows
from benchmarks.measures import milliseconds, wilson

_LEVELS = (Severity.ERROR, Severity.WARNING)
_LINES = 200
_MOST_FILES = 200
_LONGEST_FILE = 100_000
_ENDINGS = {
    Language.C: (".c",),
    Language.CPP: (".cpp", ".cc", ".cxx"),
    Language.CSHARP: (".cs",),
    Language.JAVA: (".java", ".kt"),
    Language.JAVASCRIPT: (".js", ".ts"),
    Language.PHP: (".php",),
    Language.RUST: (".rs",),
    Language.GO: (".go",),
}


def judge_code(data: Path, library: Sequence[str], trusted: Path | None = None) -> dict[str, Any]:
    """Score Code Shield on labelled insecure snippets, and count its false alarms."""
    load_all_rules()
    rows = read_rows(data / "insecure_code.jsonl")
    prose = [
        row["text"] for name in ("benign_requests", "moderation") for row in read_rows(data / f"{name}.jsonl")
    ]
    benign = {language.value: texts for language, texts in _benign_code(library).items()}
    if trusted is not None:
        benign |= {f"{language.value} (trusted)": texts for language, texts in _trusted_code(trusted).items()}
    prose_worst = [_worst(_unlabelled(text, Stage.MODEL_OUTPUT)) for text in prose]
    return {
        "recall": _recall(rows, lambda row: _worst(scan_code(row["text"], Language(row["language"])))),
        "recall_without_label": _recall(rows, lambda row: _worst(_unlabelled(row["text"], Stage.CODE))),
        "false_alarms": {
            name: _false_alarms(texts, Language(name.partition(" ")[0]))
            for name, texts in benign.items()
            if texts
        },
        "prose_flagged": {
            level.value: wilson(sum(worst >= level.rank for worst in prose_worst), len(prose))
            for level in _LEVELS
        },
        "milliseconds_200_lines": {
            language.value: _times(language, _pieces_of(language, rows, library)) for language in Language
        },
    }


def _pieces_of(language: Language, rows: Sequence[dict[str, Any]], library: Sequence[str]) -> list[str]:
    """Return pieces of 200 lines: modules, else labelled snippets, else the examples of the rules."""
    if language is Language.PYTHON:
        return ["\n".join(text.splitlines()[:_LINES]) for text in library]
    return _pieces([row["text"] for row in rows if row["language"] == language] or _examples(language))


def _unlabelled(text: str, stage: Stage) -> list[Issue]:
    return [
        issue
        for part in code_parts(text, stage=stage, language=None)
        for language in part.languages
        for issue in scan_code(part.code, language)
    ]


def _worst(issues: Sequence[Issue]) -> int:
    return max((issue.severity.rank for issue in issues if issue.rule != "not-parsed"), default=-1)


def _recall(rows: Sequence[dict[str, Any]], worst_of: Callable[[dict[str, Any]], int]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    hits: dict[Severity, Counter[str]] = {level: Counter() for level in _LEVELS}
    for row in rows:
        worst = worst_of(row)
        for group in (f"{row['language']} {row['cwe']}", row["language"], "all"):
            total[group] += 1
            for level in _LEVELS:
                hits[level][group] += worst >= level.rank
    return {
        group: {"n": total[group]}
        | {level.value: wilson(hits[level][group], total[group]) for level in _LEVELS}
        for group in sorted(total)
    }


def _false_alarms(texts: Sequence[str], language: Language) -> dict[str, Any]:
    found = [scan_code(text, language) for text in texts]
    errors = [issue for issues in found for issue in issues if issue.severity is Severity.ERROR]
    lines = sum(text.count("\n") for text in texts)
    return {
        "files": len(texts),
        **{
            f"files_with_{level.value}": wilson(
                sum(_worst(issues) >= level.rank for issues in found), len(texts)
            )
            for level in _LEVELS
        },
        "errors_per_1000_lines": round(1000 * len(errors) / max(lines, 1), 3),
        "rules": dict(Counter(issue.rule for issue in errors).most_common(8)),
    }


def _benign_code(library: Sequence[str]) -> dict[Language, list[str]]:
    packages = Path(sysconfig.get_paths()["purelib"])
    return {
        Language.PYTHON: list(library),
        Language.CPP: _texts(Path("/usr/include").rglob("*.h")),
        Language.JAVASCRIPT: _texts(packages.rglob("*.js")),
        Language.SQL: _texts(packages.rglob("*.sql")),
        Language.SHELL: [
            text
            for text in _texts(Path("/usr/bin").iterdir())
            if text.startswith(("#!/bin/sh", "#!/bin/bash"))
        ],
    }


def _trusted_code(folder: Path) -> dict[Language, list[str]]:
    draw = random.Random(0)
    found: dict[Language, list[str]] = {}
    for language, endings in _ENDINGS.items():
        paths = sorted(path for path in folder.rglob("*") if path.suffix in endings)
        found[language] = _texts(iter(draw.sample(paths, min(len(paths), _MOST_FILES))))
    return found


def _texts(paths: Iterator[Path]) -> list[str]:
    """Return the first texts of reasonable length, by name."""
    return list(islice(filter(None, map(_text, sorted(paths))), _MOST_FILES))


def _text(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > _LONGEST_FILE:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return None


def _times(language: Language, pieces: Sequence[str]) -> dict[str, float]:
    times = milliseconds(lambda text: scan_code(text, language), pieces)
    return {"p50": float(np.quantile(times, 0.5)), "p95": float(np.quantile(times, 0.95))}


def _pieces(snippets: Sequence[str]) -> list[str]:
    """Return pieces of 200 lines, however few snippets there are."""
    lines = [line for snippet in snippets for line in snippet.splitlines()]
    while len(lines) < 10 * _LINES:
        lines += lines
    return ["\n".join(lines[start : start + _LINES]) for start in range(0, len(lines) - _LINES + 1, _LINES)]


def _examples(language: Language) -> list[str]:
    rules = rules_of(language)
    by_calls = [rule for named in rules.by_name.values() for _, rule in named]
    return [
        text
        for rule in (*by_calls, *(rule for _, rule in rules.patterns))
        for text in (*rule.rule.insecure, *rule.rule.sound)
    ]


def show_code(code: dict[str, Any], console: Console) -> None:
    """Print the figures of Code Shield."""
    table = Table(
        "code_shield: recall",
        "rows",
        "block_at: error",
        "block_at: warning",
        "error, no label",
        "warning, no label",
    )
    for group, row in code["recall"].items():
        unlabelled = code["recall_without_label"][group]
        table.add_row(
            group, str(row["n"]), row["error"], row["warning"], unlabelled["error"], unlabelled["warning"]
        )
    console.print(table)
    table = Table(
        "code_shield: benign files", "files", "with an error", "with a warning", "errors in 1,000 lines"
    )
    for language, row in code["false_alarms"].items():
        table.add_row(
            language,
            str(row["files"]),
            row["files_with_error"],
            row["files_with_warning"],
            str(row["errors_per_1000_lines"]),
        )
    console.print(table)
    times = ", ".join(
        f"{language} {row['p50']:.1f}/{row['p95']:.1f}"
        for language, row in code["milliseconds_200_lines"].items()
    )
    prose = ", ".join(f"{share} at {level}" for level, share in code["prose_flagged"].items())
    console.print(f"prose flagged: {prose}; p50/p95 ms for 200 lines: {times}")
