"""Which store a URL names, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from agentkit.errors import ConfigurationError
from agentkit.memory import MemoryStore, SQLiteStore, Store, open_store
from agentkit.testing.store_samples import HEADER


@pytest.mark.parametrize("url", [None, "memory://", "MEMORY://"])
def test_memory_is_a_store_in_the_process(url: str | None):
    assert isinstance(open_store(url), MemoryStore)


def test_a_store_is_returned_as_it_is():
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize("store", [MemoryStore(), SQLiteStore("agent.db")])
def test_both_stores_are_stores(store: object):
    assert isinstance(store, Store)


async def test_an_absolute_url_names_its_file(tmp_path: Path):
    store = open_store(f"sqlite:///{tmp_path}/agent.db")
    await store.commit("s", expected_version=0, header=HEADER, entries=[])
    await store.close()
    assert (tmp_path / "agent.db").is_file()


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///agent.db", Path("agent.db").absolute()), ("sqlite:////var/lib/a.db", Path("/var/lib/a.db"))],
)
def test_the_path_stands_after_the_third_slash(url: str, path: Path):
    store = open_store(url)
    assert isinstance(store, SQLiteStore)
    assert store.path == path


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("agent.db", "has no scheme; write memory:// or sqlite:///relative.db or"),
        ("", "has no scheme"),
        ("sqlit:///agent.db", "scheme 'sqlit' is unknown, did you mean 'sqlite'"),
        ("mysql://localhost/agent", "scheme 'mysql' is unknown; write memory:// or sqlite:"),
        ("postgre://localhost/agent", "scheme 'postgre' is unknown, did you mean 'postgres'"),
        ("postgresql://localhost/agent?sslmod=require", "no option 'sslmod', did you mean 'sslmode'"),
        ("postgresql://localhost/agent?colour=red", "not one of PostgreSQL; write postgresql://"),
        ("postgresql://localhost:http/agent", "not one of PostgreSQL; write postgresql://"),
        ("sqlite://agent.db", "names no file; write sqlite:///relative.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///agent.db?timeout=3", "has options; build SQLiteStore"),
        ("sqlite:///:memory:", "write memory://"),
        ("memory://sessions", "write memory://"),
    ],
)
def test_a_wrong_url_is_told_what_to_write(url: str, message: str):
    with pytest.raises(ConfigurationError, match=message):
        open_store(url)


def test_what_is_neither_url_nor_store_is_refused():
    with pytest.raises(ConfigurationError, match="a store is a URL or a Store, got int"):
        open_store(cast("Any", 3))


def test_a_negative_busy_timeout_is_refused():
    with pytest.raises(ConfigurationError, match="busy_timeout must be at least 0 seconds, got -1"):
        SQLiteStore("agent.db", busy_timeout=-1)
