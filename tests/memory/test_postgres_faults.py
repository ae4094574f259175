"""A database that refuses gets one clear sentence that names it, never its password, and stays usable."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from typing import Any

import anyio
import pytest

from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory import AuditEvent, open_store
from agentkit.memory.postgres import PostgresStore
from agentkit.memory.postgres_address import PostgresAddress
from agentkit.memory.postgres_database import PostgresDatabase, check_server_version
from agentkit.testing.store_samples import HEADER, as_stored, journal_of, turns
from tests.memory.postgres_stores import commit, loaded, opened, row_counts
from tests.postgres_server import PostgresServer

NAME = r"database '\w+' at 127.0.0.1:\d+ "
SECRET = "kept-back"


async def error_of(url: str, schema: str = "agentkit", **options: float) -> str:
    """What a store says that cannot be read."""
    async with opened(url, schema, **options) as store:
        with pytest.raises(StoreError) as caught:
            await store.load("s")
    return str(caught.value)


def add_trigger(server: PostgresServer, schema: str, table: str, body: str) -> None:
    """Let the server do something before it inserts into a table."""
    server.execute(
        f"CREATE FUNCTION {schema}.act() RETURNS trigger AS $$ BEGIN {body}; RETURN NEW; END $$ LANGUAGE plpgsql",
        f"CREATE TRIGGER act BEFORE INSERT ON {schema}.{table} FOR EACH ROW EXECUTE FUNCTION {schema}.act()",
    )


async def write_into(store: PostgresStore, table: str) -> None:
    """Make a session with a row in a table."""
    match table:
        case "journal":
            await store.append("s", expected_version=0, header=HEADER, records=await journal_of(1))
        case "audit":
            await store.note("s", AuditEvent(kind="noted"))
        case _:
            await commit(store, "s", 1)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"password": SECRET}, 'password authentication failed for user "agentkit"'),
        ({"user": "nobody_here"}, 'password authentication failed for user "nobody_here"'),
        ({"database": "missing"}, 'database "missing" does not exist'),
        ({"options": "sslmode=require"}, "server does not support SSL"),
    ],
)
async def test_what_keeps_a_store_out_is_said_at_once(
    postgres_server: PostgresServer, place: dict[str, Any], message: str
):
    with anyio.fail_after(10):
        said = await error_of(postgres_server.url(**place), reconnect_timeout=60)
    assert "cannot be reached: " in said
    assert message in said
    assert "\n" not in said


async def test_a_password_is_in_no_error_log_or_repr(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    store = PostgresStore(postgres_server.url(password=SECRET))
    with pytest.raises(StoreError) as caught:
        await store.list()
    address = PostgresAddress.parse(postgres_server.url(password=SECRET))
    shown = [
        repr(store),
        repr(vars(store)),
        repr(address),
        caplog.text,
        *traceback.format_exception(caught.value),
    ]
    assert (
        repr(store)
        == f"PostgresStore(database 'postgres' at 127.0.0.1:{postgres_server.port}, schema 'agentkit')"
    )
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://bob:p@{SECRET}@host/agent",
        f"postgresql://bob:p/{SECRET}@host/agent",
        f"postgresql://bob:p?{SECRET}@host/agent",
        f"postgresql://bob:%{SECRET}@host/agent",
        f"postgresql://bob:{SECRET}@host:{SECRET}/agent",
        f"postgresql://bob:{SECRET}@host/agent?colour=red",
        f"postgresql://bob:{SECRET}@host/agent?sslmod=require",
        f"postgresql:/bob:{SECRET}@host/agent",
        f"host=localhost password={SECRET}",
    ],
)
def test_a_url_that_is_refused_keeps_its_password(url: str):
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://bob:secret@db.example:6432/agent", "database 'agent' at db.example:6432"),
        ("postgres://bob@db.example:1/", "database 'bob' at db.example:1"),
        ("postgresql:///agent?host=/run/pg&port=7", "database 'agent' at /run/pg:7"),
        ("postgresql://one:1,two:2/agent", "database 'agent' at one:1, two:2"),
        ("postgresql://one,two/agent?port=9", "database 'agent' at one:9, two:9"),
        ("postgresql://one,two:2/agent", "database 'agent' at one:5432, two:2"),
        ("postgresql://[::1]:5/agent", "database 'agent' at ::1:5"),
    ],
)
def test_an_address_is_named_for_people(url: str, name: str):
    assert PostgresAddress.parse(url).name == name


async def test_the_options_of_a_url_reach_the_server(postgres_server: PostgresServer, postgres_schema: str):
    url = postgres_server.url(options="application_name=workers&options=-c%20work_mem%3D1MB")
    async with opened(url, postgres_schema) as store:
        await store.list()
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'workers'"
        assert postgres_server.execute(query) == [(1,)]


async def test_commits_wait_for_the_disk_where_a_role_does_not(
    postgres_server: PostgresServer, postgres_schema: str
):
    database = PostgresDatabase(
        PostgresAddress.parse(postgres_server.url(options="options=-c%20synchronous_commit%3Doff")),
        schema=postgres_schema,
        pool_size=1,
        pool_timeout=1.0,
        reconnect_timeout=1.0,
        statement_timeout=5.0,
    )
    setting = await database.read(lambda transaction: transaction.execute("SHOW synchronous_commit"))
    assert await setting.fetchone() == ("on",)
    await database.close()


@pytest.mark.parametrize(
    ("table", "condition", "message"),
    [
        ("entries", "disk_full", "cannot grow: the disk is full; free some space"),
        ("journal", "out_of_memory", "is out of memory; give the server more"),
        ("audit", "io_error", "cannot be read or written; check its disk"),
        ("sessions", "read_only_sql_transaction", "is read-only; name the primary server"),
        ("entries", "data_corrupted", "is corrupt; restore a backup"),
        ("entries", "raise_exception", r"failed: RaiseException \(P0001\)"),
    ],
)
async def test_a_write_that_the_server_refuses_changes_nothing(
    postgres_server: PostgresServer, postgres_schema: str, table: str, condition: str, message: str
):
    async with opened(postgres_server.url(), postgres_schema, pool_size=1) as store:
        await store.list()
        add_trigger(postgres_server, postgres_schema, table, f"RAISE {condition} USING DETAIL = '{SECRET}'")
        with pytest.raises(StoreError, match=f"^{NAME}{message}") as caught:
            await write_into(store, table)
        assert SECRET not in str(caught.value)
        assert await store.load("s") is None
        assert await store.audit("") == ()
        postgres_server.execute(f"DROP FUNCTION {postgres_schema}.act CASCADE")
        await commit(store, "other", 1)
        assert (await loaded(store, "other")).entries == as_stored(await turns(1))


async def test_a_statement_that_takes_too_long_is_ended(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with opened(postgres_server.url(), postgres_schema, pool_size=1, statement_timeout=0.2) as store:
        await store.list()
        add_trigger(postgres_server, postgres_schema, "entries", "PERFORM pg_sleep(60)")
        with pytest.raises(
            StoreError, match=r"did not finish a statement within 0.2 s, .* raise statement_timeout"
        ):
            await commit(store, "s", 1)
        assert await store.load("s") is None
        assert set(row_counts(postgres_server, postgres_schema).values()) == {0}


async def test_a_server_without_a_free_connection_says_what_to_change(
    postgres_server: PostgresServer,
):
    postgres_server.execute(
        "CREATE DATABASE small CONNECTION LIMIT 0",
        f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}'",
    )
    url = postgres_server.url(user="guest", password=SECRET, database="small")
    said = await error_of(url, reconnect_timeout=0.2)
    assert "too many connections" in said
    assert said.endswith("raise max_connections, or lower pool_size or the number of workers")


async def test_a_user_without_rights_is_told_which_ones(
    postgres_server: PostgresServer, postgres_schema: str
):
    user = f"user_{postgres_schema}"
    postgres_server.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{SECRET}'")
    url = postgres_server.url(user=user, password=SECRET)
    assert "refuses access; grant this user CREATE on the database" in await error_of(url, postgres_schema)
    async with opened(postgres_server.url(), postgres_schema) as store:
        version = await commit(store, "s", 1)
    postgres_server.execute(
        f"GRANT USAGE ON SCHEMA {postgres_schema} TO {user}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA {postgres_schema} TO {user}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {postgres_schema} TO {user}",
    )
    async with opened(url, postgres_schema) as store, store.hold("s"):
        assert await commit(store, "s", 2) > version
    postgres_server.execute(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE {}.entries SET ids = ids || '\\x00' WHERE depth = 2", "entry 2 of session 's' is damaged"),
        ("UPDATE {}.entries SET turn = 9 WHERE depth = 1", "entry 1 of session 's' is damaged"),
        ("UPDATE {}.entries SET parent = NULL WHERE depth = 2", "the entries of session 's' are damaged"),
        ("UPDATE {}.sessions SET entries = 4", "the entries of session 's' are damaged: one is missing"),
        ("UPDATE {}.sessions SET header = '[]'", "the header of session 's' cannot be read"),
        ("UPDATE {}.journal SET body = '\\x7b7d'", "journal record 0 of session 's' is damaged"),
        ("ALTER TABLE {}.entries DROP COLUMN ids", "has a table that is not as agentkit made it; restore"),
        ("DROP TABLE {}.journal", "has lost a table that agentkit made; restore a backup"),
    ],
)
async def test_rows_that_are_not_ours_are_named(
    postgres_server: PostgresServer, postgres_schema: str, statement: str, message: str
):
    async with opened(postgres_server.url(), postgres_schema) as store:
        version = await commit(store, "s", 1)
        await store.append("s", expected_version=version, header=HEADER, records=await journal_of(2))
        postgres_server.execute(statement.format(postgres_schema))
        with pytest.raises(StoreError, match=message):
            await store.load("s")


def test_an_old_server_is_refused_with_both_numbers():
    check_server_version(140_000, name="database 'agent' at host:5432")
    with pytest.raises(StoreError, match="at host:5432 is PostgreSQL 13, agentkit needs 14 or newer"):
        check_server_version(130_022, name="database 'agent' at host:5432")


WITHOUT_PSYCOPG = """
import sys
sys.modules["psycopg"] = None
from agentkit.errors import ConfigurationError
from agentkit.memory import open_store
open_store("sqlite:///agent.db")
try:
    open_store("postgresql://localhost/agent")
except ConfigurationError as exc:
    print(exc)
"""


def test_without_psycopg_the_extra_is_named():
    done = subprocess.run([sys.executable, "-c", WITHOUT_PSYCOPG], capture_output=True, text=True, check=True)
    assert done.stdout == "a store in PostgreSQL needs psycopg; pip install 'agentkit[postgres]'\n"


def test_psycopg_is_loaded_only_for_a_store_in_postgresql():
    code = "import sys, agentkit.memory; print('psycopg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
