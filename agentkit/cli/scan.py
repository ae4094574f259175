"""`agentkit scan`: text on stdin -> one JSON verdict a row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from agentkit.agent.runtime import EngineRoom
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.json_input import parse_json
from agentkit.cli.loading import import_modules, load_policy
from agentkit.cli.output import write_json
from agentkit.cli.scan_progress import scan_progress
from agentkit.cli.standard_input import StdinLines, read_stdin
from agentkit.errors import ConfigurationError
from agentkit.messages import MODEL, USER, Origin, Provenance
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.decision import Decision, OutcomeStatus
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy
from agentkit.shields.policy_errors import with_nearest

# Enough to fill a model's batch; more would only make the first verdict wait.
_ROWS_TOGETHER = 64
_PROVENANCE = {
    Stage.USER_INPUT: USER,
    Stage.TOOL_DESCRIPTION: Provenance(origin=Origin.TOOL),
    Stage.TOOL_CALL: MODEL,
    Stage.CODE: MODEL,
    Stage.TOOL_RESULT: Provenance(origin=Origin.TOOL),
    Stage.MEMORY: Provenance(origin=Origin.MEMORY),
    Stage.MODEL_OUTPUT: MODEL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One text to judge, and what its verdict begins with: the row's id, if it has one.

    `read_bytes` is how much of stdin had been read with it.
    """

    text: str
    identity: dict[str, Any]
    read_bytes: int


def run_scan(
    stage: str, *, policy: Path | None, jsonl: bool, language: str | None, imports: list[str]
) -> int:
    """Judge stdin; return 1 if any row was hit."""
    judged_as = _stage(stage)
    import_modules(imports)
    loaded = load_policy(policy)
    groups = _groups(StdinLines()) if jsonl else _one_row(read_stdin())
    return anyio.run(_scan, judged_as, loaded, groups, language)


async def _scan(stage: Stage, policy: Policy, groups: AsyncIterator[list[_Row]], language: str | None) -> int:
    """Judge the rows, a group at a time, in constant memory."""
    judged = num_flagged = 0
    async with AsyncExitStack() as closing:
        room = EngineRoom(closing)
        pipeline = await closing.enter_async_context(Pipeline(policy, engines=room.shield_engine))
        report = closing.enter_context(scan_progress())
        async for rows in groups:
            contents = [
                ShieldInput(text=row.text, stage=stage, provenance=_PROVENANCE[stage], language=language)
                for row in rows
            ]
            for row, decision in zip(rows, await pipeline.judge_batch(contents), strict=True):
                flagged = _is_flagged(decision)
                judged, num_flagged = judged + 1, num_flagged + flagged
                write_json({**row.identity, "flagged": flagged, **decision.to_json()})
                report(rows=judged, flagged=num_flagged, read_bytes=row.read_bytes)
    return EXIT_FINDING if num_flagged else EXIT_OK


def _is_flagged(decision: Decision) -> bool:
    """Whether a shield that decides did not pass the text: it was hit, or the shield broke or was late."""
    return any(
        outcome.status not in (OutcomeStatus.PASS, OutcomeStatus.SKIPPED) and not outcome.shadow
        for outcome in decision.outcomes
    )


def _stage(name: str) -> Stage:
    try:
        return Stage(name)
    except ValueError:
        message = with_nearest(f"there is no stage {name!r}", name, [stage.value for stage in Stage])
        raise ConfigurationError(message) from None


async def _one_row(text: str) -> AsyncIterator[list[_Row]]:
    if not text:
        raise ConfigurationError("stdin is empty; pipe the text to judge into the command")
    yield [_Row(text=text, identity={}, read_bytes=len(text.encode()))]


async def _groups(lines: StdinLines) -> AsyncIterator[list[_Row]]:
    """Yield the rows that are there without waiting, up to so many; those before one that cannot be read, too."""
    group: list[_Row] = []
    try:
        async for row in _rows(lines):
            group.append(row)
            if len(group) == _ROWS_TOGETHER or not lines.has_more_now():
                yield group
                group = []
    except ConfigurationError:
        if group:
            yield group
        raise
    if group:
        yield group


async def _rows(lines: StdinLines) -> AsyncIterator[_Row]:
    count = 0
    while (line := await lines.read()) is not None:
        if line.strip():
            count += 1
            yield _row(line, f"line {lines.number} of stdin", read_bytes=lines.num_bytes)
    if count == 0:
        raise ConfigurationError('stdin has no rows; pipe JSON lines with "text" into the command')


def _row(line: str, name: str, *, read_bytes: int) -> _Row:
    row = parse_json(line, name)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ConfigurationError(f'{name} must be an object with a string "text"')
    identity = {"id": row["id"]} if "id" in row else {}
    return _Row(text=row["text"], identity=identity, read_bytes=read_bytes)
