"""Labelled texts from JSON lines, for fitting and measuring probes. Errors say which file, and which line of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentkit.cli.json_input import parse_json
from agentkit.cli.loading import check_file
from agentkit.errors import ConfigurationError
from agentkit.shields.probe_training import LabelledText


def read_labelled(files: Sequence[Path], *, label: str, group: str | None) -> list[LabelledText]:
    """Read labelled texts.

    Raises:
        ConfigurationError: if a file is missing, or a row is none; with file and line.
    """
    texts: list[LabelledText] = []
    for file in files:
        check_file(file, "file", suffixes=(".jsonl", ".json"))
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"cannot read {file} as UTF-8: {type(exc).__name__}") from exc
        for number, line in enumerate(lines, start=1):
            if line.strip():
                texts.append(_labelled(line, f"{file}:{number}", label, group))
    return texts


def _labelled(line: str, name: str, label: str, group: str | None) -> LabelledText:
    row = parse_json(line, name)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"]:
        raise ConfigurationError(f'{name} must be an object with a string "text" that is not empty')
    if row.get(label) not in (True, False):
        raise ConfigurationError(
            f'{name}: "{label}" must be true or false, 1 or 0; name the field with --label'
        )
    named = None if group is None else row.get(group)
    return LabelledText(
        text=row["text"],
        label=bool(row[label]),
        group=None if named is None else str(named),
        span=_span(row, name),
    )


def _span(row: dict[str, Any], name: str) -> tuple[int, int] | None:
    match row.get("span"):
        case None:
            return None
        case [int(start), int(end)] if 0 <= start < end <= len(row["text"]):
            return start, end
        case _:
            raise ConfigurationError(f'{name}: "span" must be two places in the text, [start, end)')
