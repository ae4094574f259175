"""`agentkit sessions export`, `import` and `backup`: sessions into files, and back behind the shields."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from agentkit.cli.agent_options import AgentOptions
from agentkit.cli.exit_codes import EXIT_OK
from agentkit.cli.json_input import json_kind, read_json, shown
from agentkit.cli.output import write_json, write_line, write_note
from agentkit.cli.session_store import existing, in_store, opened
from agentkit.errors import ConfigurationError
from agentkit.memory import SQLiteStore, Store, StoredSession
from agentkit.memory.export import session_from_json, session_to_json


def run_export(session_id: str, file: Path, store: str) -> int:
    """Write a session as JSON into a new file, or to stdout for `-`; an unfinished turn is not part of it."""
    stored = in_store(store, lambda kept: existing(kept, session_id))
    if stored.journal:
        write_note(f"agentkit: the unfinished turn of {session_id} is not part of the export")
    if str(file) == "-":
        write_json(session_to_json(stored))
    else:
        _write_new(file, session_to_json(stored))
        write_line(f"{session_id} is in {file}")
    return EXIT_OK


def run_import(file: Path, store: str, *, session_id: str | None, options: AgentOptions) -> int:
    """Keep an exported session as a new one, judged at stage `memory`; the store is made where there is none."""
    data = read_json(file)
    if not isinstance(data, dict):
        raise ConfigurationError(f"{shown(file)} must hold an exported session, got {json_kind(data)}")
    imported = session_from_json(data, session_id=session_id)
    anyio.run(_import, data, imported, store, options)
    write_line(f"{imported.id} is imported")
    return EXIT_OK


def run_backup(file: Path, store: str) -> int:
    """Copy a SQLite store, as it is now, into a new file."""
    in_store(store, lambda kept: _back_up(kept, file))
    write_line(f"the store is in {file}")
    return EXIT_OK


async def _import(data: dict[str, Any], imported: StoredSession, url: str, options: AgentOptions) -> None:
    async with opened(url) as store:
        if await store.version(imported.id):
            raise ConfigurationError(f"there is a session {imported.id!r} already; name another with --id")
        async with options.of_session(imported.header).agent() as agent:
            await agent.import_session(data, imported.id, store=store)


async def _back_up(store: Store, file: Path) -> None:
    if not isinstance(store, SQLiteStore):
        raise ConfigurationError(
            f"only a SQLite store has a backup of its own, this is a {type(store).__name__}; "
            "use the database's own tools, such as pg_dump"
        )
    await store.backup(file)


def _write_new(file: Path, value: dict[str, Any]) -> None:
    """Write JSON into a file that is not there yet; in ASCII, so that any text comes back as it was."""
    try:
        with file.open("x", encoding="ascii") as opened_file:
            opened_file.write(json.dumps(value) + "\n")
    except FileExistsError as error:
        raise ConfigurationError(f"{file} exists; name a new file") from error
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
