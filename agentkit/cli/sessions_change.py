"""Changes to sessions that need no model: `approve`, `deny`, `fork`, `rollback`, `delete`, `prune`."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agentkit.agent.agent import Agent
from agentkit.agent.saved_kv import forget_kv
from agentkit.agent.session import Session
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.options import EMBEDDED_MODEL
from agentkit.cli.output import write_line, write_note
from agentkit.cli.session_store import existing, in_store
from agentkit.cli.standard_input import STDIN, StdinLines
from agentkit.errors import ConfigurationError
from agentkit.memory import AuditEvent, Store, StoredSession
from agentkit.memory.retention import prunable, prune
from agentkit.memory.rules import check_same_tenant, check_turn

_AGE: Final = re.compile(r"([1-9][0-9]{0,4})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def run_approve(session_id: str, call_id: str, store: str) -> int:
    """Let a call run that waits for a person; the next `resume` makes it."""
    in_store(store, lambda kept: _approve(kept, session_id, call_id))
    write_line(f"{call_id} is approved; `agentkit sessions resume {session_id}` makes it")
    return EXIT_OK


def run_deny(session_id: str, call_id: str, store: str) -> int:
    """Refuse a call that waits for a person; the next `resume` tells the model."""
    in_store(store, lambda kept: _deny(kept, session_id, call_id))
    write_line(f"{call_id} is denied; `agentkit sessions resume {session_id}` tells the model")
    return EXIT_OK


def run_fork(session_id: str, new_id: str, store: str, *, turn: int | None) -> int:
    """Begin a new session with the turns of another; an unfinished turn is not among them."""
    in_store(store, lambda kept: _fork(kept, session_id, new_id, turn=turn))
    write_line(f"{new_id} is a fork of {session_id}")
    return EXIT_OK


def run_rollback(session_id: str, turn: int, store: str, *, kv_folder: Path | None) -> int:
    """Forget every turn after one, an unfinished one included."""
    in_store(store, lambda kept: _roll_back(kept, session_id, turn, kv_folder))
    write_line(f"{session_id} ends with turn {turn}")
    return EXIT_OK


def run_delete(session_id: str, store: str, *, yes: bool, kv_folder: Path | None) -> int:
    """Forget a session, once it is clear that this is meant; return 1 if it is not.

    Raises:
        ConfigurationError: if there is nobody to ask.
    """
    if not yes and not os.isatty(STDIN):
        raise ConfigurationError("deleting a session needs --yes where nobody can be asked")
    if in_store(store, lambda kept: _delete(kept, session_id, kv_folder, asks=not yes)):
        write_line(f"{session_id} is deleted")
        return EXIT_OK
    write_note(f"agentkit: {session_id} was kept")
    return EXIT_FINDING


def run_prune(store: str, *, older_than: str, prefix: str, dry_run: bool, kv_folder: Path | None) -> int:
    """Delete the sessions that nobody used for so long, or only say which; print their ids."""
    before = datetime.now(UTC) - _age(older_than)
    if dry_run:
        pruned = in_store(store, lambda kept: _old(kept, before, prefix))
    else:
        pruned = in_store(store, lambda kept: _prune(kept, before, prefix, kv_folder))
    for session_id in pruned:
        write_line(session_id)
    write_note(f"agentkit: {len(pruned)} {'would be ' if dry_run else ''}deleted")
    return EXIT_OK


async def _approve(store: Store, session_id: str, call_id: str) -> None:
    await (await _session(store, session_id)).approve(call_id)


async def _deny(store: Store, session_id: str, call_id: str) -> None:
    await (await _session(store, session_id)).deny(call_id)


async def _session(store: Store, session_id: str) -> Session:
    """Return a session for what needs no model: none is loaded, whatever its name."""
    await existing(store, session_id)
    return Agent(EMBEDDED_MODEL).session(session_id, store=store)


async def _fork(store: Store, session_id: str, new_id: str, *, turn: int | None) -> None:
    check_same_tenant(session_id, new_id)
    async with store.hold(session_id):
        stored = await existing(store, session_id)
        await store.fork(session_id, new_id, num_entries=_num_entries(stored, until=turn))


async def _roll_back(store: Store, session_id: str, turn: int, kv_folder: Path | None) -> None:
    async with store.hold(session_id):
        await forget_kv(kv_folder, session_id)
        stored = await existing(store, session_id)
        await store.commit(
            session_id,
            expected_version=stored.version,
            header=stored.header,
            entries=(),
            replace_from=_num_entries(stored, until=turn),
            event=AuditEvent(kind="session_rolled_back", details={"turn": turn}),
        )


def _num_entries(stored: StoredSession, *, until: int | None) -> int:
    """Return how many entries the turns up to `until` have, the instructions included; None is all of them."""
    if not stored.entries:
        raise ConfigurationError(f"session {stored.id!r} has no finished turn; abandon or delete it")
    if until is not None:
        check_turn(stored.id, until, turns=(entry.turn for entry in stored.entries))
    return sum(until is None or entry.turn <= until for entry in stored.entries)


async def _delete(store: Store, session_id: str, kv_folder: Path | None, *, asks: bool) -> bool:
    session = await _session(store, session_id)
    if asks and not await _confirmed(f"delete session {session_id} for good?"):
        return False
    await forget_kv(kv_folder, session_id)
    return await session.delete()


async def _confirmed(question: str) -> bool:
    """Ask on the terminal; only a clear yes is one."""
    lines = StdinLines()
    lines.drop_typed_ahead()
    write_note(f"{question} y/N")
    answer = await lines.read()
    return answer is not None and answer.strip().lower() in ("y", "yes")


async def _prune(store: Store, before: datetime, prefix: str, kv_folder: Path | None) -> tuple[str, ...]:
    pruned = await prune(store, before=before, prefix=prefix)
    for session_id in pruned:
        await forget_kv(kv_folder, session_id)
    return pruned


async def _old(store: Store, before: datetime, prefix: str) -> tuple[str, ...]:
    return tuple(info.id for info in await prunable(store, before=before, prefix=prefix))


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"--older-than must be a number from 1 to 99999 and one of s, m, h, d, w, for instance 30d, got {text!r}"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
