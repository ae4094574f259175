"""A session as plain JSON, to be kept or read elsewhere. Versioned; judges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from agentkit.errors import ConfigurationError
from agentkit.memory.rules import check_session_id
from agentkit.memory.store import SessionHeader, StoredSession
from agentkit.memory.transcript import entry_from_json, entry_to_json

FORMAT: Final = "agentkit.session"
VERSION: Final = 1


def session_to_json(stored: StoredSession) -> dict[str, Any]:
    """Return a session as plain JSON values, its unfinished turn left out; `session_from_json` reads it back."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": stored.id,
        "header": asdict(stored.header),
        "entries": [entry_to_json(entry) for entry in stored.entries],
    }


def session_from_json(data: Mapping[str, Any], *, session_id: str | None = None) -> StoredSession:
    """Read an exported session, under another id if one is given. Its content is not cleared.

    Raises:
        ConfigurationError: if this is no exported session, or one of a newer version.
    """
    if data.get("format") != FORMAT:
        raise ConfigurationError(f"this is no exported session: its format is not {FORMAT!r}")
    if data.get("version") != VERSION:
        raise ConfigurationError(
            f"the export has version {data.get('version')!r}, this agentkit reads version {VERSION}; "
            "use the agentkit that wrote it"
        )
    try:
        session_id = str(data["id"]) if session_id is None else session_id
        header = SessionHeader(**data["header"])
        entries = tuple(entry_from_json(entry) for entry in data["entries"])
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ConfigurationError(
            f"the exported session cannot be read: {type(exc).__name__}; export it again"
        ) from exc
    check_session_id(session_id)
    return StoredSession(id=session_id, version=0, header=header, entries=entries)
