"""A PostgreSQL URL: checked, and named for people without its password. Connects to nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl

from agentkit.errors import ConfigurationError
from agentkit.nearest import nearest

try:
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.pq import Conninfo
except ImportError as exc:
    raise ConfigurationError("a store in PostgreSQL needs psycopg; pip install 'agentkit[postgres]'") from exc

_FORM: Final = (
    "write postgresql://user:password@host:port/database?option=value, with %40 for @, %2F for /, %3F for ? "
    "and %25 for % in a password"
)


_PORT: Final = "5432"

_CONNECT_SECONDS: Final = "3"
"""How long one host may take to accept a connection, where nobody set it: the next one may be alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where a database is and how to get in. `name` is safe to show, `conninfo` may hold a password."""

    name: str
    conninfo: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL as libpq does: options after `?`, what is missing from the environment and its files.

        Raises:
            ConfigurationError: if it is none; the message shows nothing of it that may be a password.
        """
        defaults = {
            option.keyword.decode(): (option.val or b"").decode() for option in Conninfo.get_defaults()
        }
        _check_separators(url)
        _check_options(url, known=defaults)
        try:
            # Whatever libpq says about a malformed URL may quote its password.
            given = {key: str(value) for key, value in conninfo_to_dict(url).items()}
        except Error:
            raise _malformed() from None
        if not all(port.isdigit() for port in given.get("port", "0").split(",") if port):
            raise _malformed()
        ours = {
            "fallback_application_name": "agentkit",
            "connect_timeout": defaults["connect_timeout"] or _CONNECT_SECONDS,
        }
        return cls(name=_name(defaults | given), conninfo=make_conninfo("", **(ours | given)))


def _check_separators(url: str) -> None:
    """Refuse a password with `@`, `/` or `?` as it is: libpq would take its end for something else."""
    rest = url.partition("://")[2]
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    if rest.count("@") != authority.count("@") or authority.count("@") > 1:
        raise _malformed()


def _check_options(url: str, *, known: Collection[str]) -> None:
    for option, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True):
        near = nearest(option, known)
        if option not in known and near:
            raise ConfigurationError(f"PostgreSQL has no option {option!r}, did you mean {near!r}?")


def _malformed() -> ConfigurationError:
    return ConfigurationError(f"a store's URL is not one of PostgreSQL; {_FORM}")


def _name(values: Mapping[str, str]) -> str:
    hosts = (values["host"] or values["hostaddr"] or "localhost").split(",")
    ports = [port or _PORT for port in values["port"].split(",")]
    places = zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=False)
    database = values["dbname"] or values["user"]
    return f"database {database!r} at {', '.join(f'{host}:{port}' for host, port in places)}"
