"""A store's URL -> the store. Knows which stores there are."""

from __future__ import annotations

from typing import Final

from agentkit.errors import ConfigurationError
from agentkit.memory.in_process import MemoryStore
from agentkit.memory.sqlite import SQLiteStore
from agentkit.memory.store import Store
from agentkit.nearest import nearest

_FORMS: Final = (
    "memory:// or sqlite:///relative.db or sqlite:////absolute/path.db or postgresql://user@host/database"
)
_SCHEMES: Final = ("memory", "sqlite", "postgresql", "postgres")


def open_store(url: str | Store | None) -> Store:
    """Return the store that a URL names; None means one in the process; a store is returned as it is.

    A SQLite file is opened, and PostgreSQL connected to, by the first operation.

    Raises:
        ConfigurationError: if the URL names no store, or one whose extra is not installed.
    """
    if url is None:
        return MemoryStore()
    if not isinstance(url, str):
        if not isinstance(url, Store):
            raise ConfigurationError(f"a store is a URL or a Store, got {type(url).__name__}; write {_FORMS}")
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        # It may be a connection string with a password.
        shown = "" if "@" in url or "=" in url else f" {url!r}"
        raise ConfigurationError(f"store{shown} has no scheme; write {_FORMS}")
    match scheme.lower():
        case "memory":
            return _memory(url, rest)
        case "sqlite":
            return _sqlite(url, rest)
        case "postgresql" | "postgres":
            return _postgres(rest)
        case _:
            raise ConfigurationError(f"store scheme {scheme!r} is unknown{_nearest(scheme)}; write {_FORMS}")


def _memory(url: str, rest: str) -> MemoryStore:
    if rest:
        raise ConfigurationError(f"store {url!r} names something in the process; write memory://")
    return MemoryStore()


def _sqlite(url: str, rest: str) -> SQLiteStore:
    path = rest.removeprefix("/")
    if path == rest or not path:
        raise ConfigurationError(
            f"store {url!r} names no file; write sqlite:///relative.db or sqlite:////absolute.db"
        )
    if "?" in path or "#" in path:
        raise ConfigurationError(
            f"store {url!r} has options; build SQLiteStore(path, busy_timeout=...) for them"
        )
    if path == ":memory:":
        raise ConfigurationError(f"store {url!r} would be gone with its connection; write memory://")
    return SQLiteStore(path)


def _postgres(rest: str) -> Store:
    # Imported here: psycopg is an extra.
    from agentkit.memory.postgres import PostgresStore

    return PostgresStore(f"postgresql://{rest}")


def _nearest(scheme: str) -> str:
    near = nearest(scheme.lower(), _SCHEMES)
    return f", did you mean {near!r}?" if near else ""
