"""`agentkit scan`: text on stdin -> one JSON verdict a row."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

from agentkit.agent.runtime import EngineRoom
from agentkit.errors import ConfigurationError
from agentkit.messages import MODEL, USER, Origin, Provenance
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.decision import OutcomeStatus
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy

_PROVENANCE = {
    Stage.USER_INPUT: USER,
    Stage.TOOL_DESCRIPTION: Provenance(origin=Origin.TOOL),
    Stage.TOOL_CALL: MODEL,
    Stage.CODE: MODEL,
    Stage.TOOL_RESULT: Provenance(origin=Origin.TOOL),
    Stage.MEMORY: Provenance(origin=Origin.MEMORY),
    Stage.MODEL_OUTPUT: MODEL,
}


def run_scan(stage: Stage, *, policy: Path | None, jsonl: bool, language: str | None) -> int:
    """Judge stdin; return 1 if any row was hit."""
    loaded = Policy.load(policy) if policy is not None else Policy.default()
    return anyio.run(_scan, stage, loaded, jsonl, language)


async def _scan(stage: Stage, policy: Policy, jsonl: bool, language: str | None) -> int:
    flagged = False
    async with AsyncExitStack() as closing:
        room = EngineRoom(closing)
        pipeline = await closing.enter_async_context(Pipeline(policy, engines=room.shield_engine))
        for row in _rows() if jsonl else iter([{"text": _stdin_text()}]):
            content = ShieldInput(
                text=row["text"],
                stage=stage,
                provenance=_PROVENANCE[stage],
                language=language or ("python" if stage is Stage.CODE else None),
            )
            decision = await pipeline.judge(content)
            hit = any(
                outcome.status is not OutcomeStatus.PASS and not outcome.shadow
                for outcome in decision.outcomes
            )
            flagged = flagged or hit
            verdict = {**({"id": row["id"]} if "id" in row else {}), "flagged": hit, **decision.to_json()}
            sys.stdout.write(json.dumps(verdict, ensure_ascii=False) + "\n")
    return 1 if flagged else 0


def _stdin_text() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"stdin is not UTF-8 (byte {error.start}); convert it first") from None


def _rows() -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_stdin_text().split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(f"line {number} of stdin is not JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ConfigurationError(f'line {number} of stdin must be an object with a string "text"')
        yield row
