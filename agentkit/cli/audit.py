"""`agentkit audit verify` and `replay`: whether a log is whole, and what another policy makes of a session."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from agentkit.agent.replay import Replayed, replay
from agentkit.agent.runtime import EngineRoom
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.json_input import json_kind, read_json, shown
from agentkit.cli.loading import check_file, import_modules, load_policy
from agentkit.cli.output import counted, write_json, write_line, write_note
from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory.audit import AuditRecord
from agentkit.memory.audit_file import read_audit_file
from agentkit.memory.export import session_from_json
from agentkit.memory.store import StoredSession
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy


def run_verify(file: Path, *, last: str | None, as_json: bool) -> int:
    """Say how many records a file has and in which digest it ends; return 1 if its chain is broken, or cut."""
    check_file(file, "audit log", suffixes=(".jsonl", ".log"))
    problem: str | None = None
    records: tuple[AuditRecord, ...] = ()
    try:
        records = read_audit_file(file)
    except StoreError as error:
        problem = str(error)
    if problem is None and last is not None and last not in {record.digest for record in records}:
        problem = f"{file} has no record with the digest {last}: its end was cut off, or it is another log"
    digest = records[-1].digest if records else None
    if as_json:
        write_json(
            {"file": str(file), "records": len(records), "whole": problem is None, "last_digest": digest}
        )
    elif problem is None:
        write_line(
            f"{file}: {counted(len(records), 'record')}, the chain is whole, its last digest is {digest}"
        )
    if problem is not None:
        write_note(f"agentkit: {problem}")
    return EXIT_OK if problem is None else EXIT_FINDING


def run_replay(
    file: Path, *, policy: Path | None, old: Path | None, imports: list[str], as_json: bool
) -> int:
    """Judge an exported session again; return 1 if the policy would make something else of it."""
    import_modules(imports)
    data = read_json(file)
    if not isinstance(data, dict):
        raise ConfigurationError(f"{shown(file)} must hold an exported session, got {json_kind(data)}")
    before = None if old is None else load_policy(old)
    replayed = anyio.run(_replay, session_from_json(data), load_policy(policy), before)
    changed = [one for one in replayed if one.changed]
    for one in replayed if as_json else changed:
        if as_json:
            write_json(one.to_json())
        else:
            write_line(_told(one))
    if not as_json:
        write_line(f"{counted(len(replayed), 'text')} judged again, {len(changed)} would change")
    return EXIT_FINDING if changed else EXIT_OK


async def _replay(stored: StoredSession, policy: Policy, old: Policy | None) -> tuple[Replayed, ...]:
    async with AsyncExitStack() as closing:
        room = EngineRoom(closing)
        under = await closing.enter_async_context(Pipeline(policy, engines=room.shield_engine))
        if old is None:
            return await replay(stored, under)
        before = await closing.enter_async_context(Pipeline(old, engines=room.shield_engine))
        return await replay(stored, under, before=before)


def _told(one: Replayed) -> str:
    was = "kept" if one.before is None else one.before.value
    why = ", ".join(word for word in (one.decision.shield, one.decision.category) if word)
    words = (
        f"turn {one.turn}  {one.message_id}  {one.decision.stage.value}: {was} -> {one.decision.action.value}"
    )
    return f"{words} ({why})" if why else words
