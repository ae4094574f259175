"""A real PostgreSQL server of our own: private folder, port and socket, no clash with one that the system runs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

USER = "agentkit"
PASSWORD = "p@ss/w?rd % ☂"  # the least convenient kind

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


class PostgresServer:
    """A server that a test may stop, kill and start again. `fsync` is on: what it acknowledged is on the disk."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._binaries = binaries
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._make()

    def url(
        self,
        *,
        user: str = USER,
        password: str = PASSWORD,
        port: int | None = None,
        database: str = "postgres",
        options: str = "",
    ) -> str:
        """The URL of a database; `port` may be that of a proxy."""
        password = quote(password, safe="")
        return f"postgresql://{user}:{password}@127.0.0.1:{port or self.port}/{database}?{options}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        deadline = time.monotonic() + 30
        self._spawn()
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise RuntimeError(self._log().read_text(errors="replace")) from None
                if self._ended():  # of a server that was killed some backend may live for a moment
                    self._spawn()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop the server as an administrator does: connections end, the disk is up to date."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server as the system does: it recovers from its log when it starts again."""
        self._end(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block the server and all its backends stand still: they neither answer nor go away."""
        processes = self._processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run statements; return the rows of the last one."""
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _make(self) -> None:
        if self._account:
            shutil.chown(self.folder, self._account)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        options = [
            "--no-sync",
            "--encoding=UTF8",
            "--no-locale",
            "--auth=scram-sha-256",
            f"--username={USER}",
        ]
        subprocess.run(
            [self._binaries / "initdb", *options, f"--pwfile={password}", self.folder / "data"],
            user=self._account,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def _spawn(self) -> None:
        settings = {"unix_socket_directories": self.folder, "max_connections": 60, "shared_buffers": "32MB"}
        if sys.platform == "linux":
            settings["recovery_init_sync_method"] = "syncfs"  # one call after a kill, not one a file
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._end(signal.SIGKILL)  # what is left of an attempt to start
        place: list[str | Path] = ["-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port)]
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", *place, *options],
                user=self._account,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        # When the tests are killed, their end of the pipe closes, and the server must not outlive them.
        watch = ["sh", "-c", 'read _; kill -QUIT "$0"', str(self._process.pid)]
        self._watcher = subprocess.Popen(watch, stdin=subprocess.PIPE)

    def _processes(self) -> list[int]:
        """The numbers of the server's processes, the one that starts the others first."""
        if self._process is None:
            return []
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        return [number, *map(int, children)]

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _end(self, signal_number: int) -> None:
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        if self._process is not None:
            self._process.send_signal(signal_number)
            self._process.wait(timeout=60)
            self._process = None

    def _log(self) -> Path:
        return self.folder / "log"


@contextmanager
def running_postgres(binaries: Path) -> Iterator[PostgresServer]:
    """Run a server while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="agentkit-pg-"))
    server = PostgresServer(binaries, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests. A test that stops or kills it leaves it running."""
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("needs a PostgreSQL server: run `make services`, or put initdb and postgres on PATH")
    with running_postgres(binaries) as server:
        yield server


@pytest.fixture
def postgres_schema(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a schema that is dropped after the test."""
    schema = f"test_{uuid4().hex}"
    yield schema
    postgres_server.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def find_postgres() -> Path | None:
    """The folder of the newest server that is installed."""
    on_path = shutil.which("postgres")
    found = [*([Path(on_path).resolve().parent] if on_path else []), *_BINARIES]
    usable = [folder for folder in found if (folder / "initdb").is_file() and (folder / "postgres").is_file()]
    return usable[-1] if usable else None


def _account() -> str | None:
    """Whom the server runs as: PostgreSQL refuses to be root. None is whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
