"""A web service that is slow, busy, broken or endless, behind the tools that ask it."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import respx

from agentkit.errors import ConfigurationError, ToolError
from agentkit.retry_after import retry_after
from agentkit.tools.builtin.service import MAX_BODY_BYTES, Service, read_key

URL = "https://service.test/ask"
KEY = "secret-key-123"
QUESTION = "what nobody else should read"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def asked() -> Iterator[respx.Route]:
    with respx.mock:
        yield respx.get(URL)


async def ask() -> bytes:
    service = Service(name="oracle", url=URL, key_variable="ORACLE_KEY", headers={"X-Key": KEY})
    return await service.get({"q": QUESTION, "key": KEY})


async def refusal() -> str:
    with pytest.raises(ToolError) as raised:
        await ask()
    error: BaseException | None = raised.value
    while error is not None:  # nothing in the chain holds the request
        assert KEY not in repr(error)
        assert not hasattr(error, "_request")
        error = error.__cause__ or error.__context__
    return str(raised.value)


async def test_an_answer_is_its_body(asked: respx.Route):
    asked.respond(content=b"42")

    assert await ask() == b"42"
    assert asked.calls.last.request.headers["X-Key"] == KEY


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(429, headers={"Retry-After": "0"}),
        httpx.Response(429, headers={"Retry-After": format_datetime(NOW, usegmt=True)}),  # long past
        httpx.Response(429, headers={"Retry-After": "soon"}),
        httpx.Response(500),
        httpx.Response(503, headers={"Retry-After": "0"}),
    ],
    ids=repr,
)
async def test_what_may_pass_is_asked_again(asked: respx.Route, trouble: httpx.Response | Exception):
    asked.side_effect = [trouble, httpx.Response(200, content=b"42")]

    assert await ask() == b"42"
    assert asked.call_count == 2


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (httpx.ReadTimeout("slow"), "oracle did not answer in time; try again later"),
        (httpx.ConnectError(f"no route to {KEY}"), "oracle could not be reached (ConnectError)"),
        (httpx.Response(502), "oracle is out of order (status 502); try again later"),
        (httpx.Response(429), "oracle was asked too often (status 429); try again later"),
    ],
    ids=repr,
)
async def test_trouble_that_stays_ends_after_three_attempts(
    asked: respx.Route, trouble: httpx.Response | Exception, said: str
):
    asked.side_effect = [trouble] * 9

    assert await refusal() == said
    assert asked.call_count == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "oracle refused the API key (status 401); the operator has to check ORACLE_KEY"),
        (403, "oracle refused the API key (status 403); the operator has to check ORACLE_KEY"),
        (422, "oracle did not take the query (status 422); put it in other words"),
        (302, "oracle did not take the query (status 302); put it in other words"),
    ],
)
async def test_what_cannot_pass_is_asked_once(asked: respx.Route, status: int, said: str):
    asked.respond(status, headers={"Location": "https://elsewhere.test/"})

    assert await refusal() == said
    assert asked.call_count == 1


async def test_a_long_wait_is_told_and_not_waited(asked: respx.Route):
    asked.respond(429, headers={"Retry-After": "3600"})

    assert await refusal() == "oracle was asked too often (status 429); it can be asked again in 3600 seconds"
    assert asked.call_count == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_without_end_is_refused(asked: respx.Route, packed: bool):
    body = b"x" * (MAX_BODY_BYTES + 1)
    if packed:
        asked.respond(content=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    else:
        asked.respond(content=body)

    assert "larger than 1000000 bytes" in await refusal()
    assert asked.call_count == 1


async def test_an_answer_that_cannot_be_unpacked_is_trouble(asked: respx.Route):
    asked.side_effect = [
        httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))
        for _ in range(3)
    ]

    assert await refusal() == "oracle could not be reached (DecodingError)"


async def test_neither_key_nor_question_is_logged(asked: respx.Route, caplog: pytest.LogCaptureFixture):
    asked.side_effect = [httpx.Response(500), httpx.Response(200), httpx.Response(200)]
    with caplog.at_level(logging.DEBUG):
        await ask()
        async with httpx.AsyncClient() as client:  # other requests of the process are logged as ever
            await client.get(URL, params={"other": "request"})

    assert "other=request" in caplog.text
    assert KEY not in caplog.text
    assert "nobody" not in caplog.text


def test_the_key_is_in_no_representation():
    assert KEY not in repr(Service(name="oracle", url=URL, key_variable="K", headers={"X-Key": KEY}))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Sun, 01 Mar 2026 12:00:05 -0000", 5.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Sun, 99 Xyz", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None):
    assert retry_after(value, now=NOW) == seconds


def test_a_key_comes_from_the_argument_or_the_environment():
    environment = {"ORACLE_KEY": f" {KEY}\n"}

    assert read_key("oracle", None, "ORACLE_KEY", where="", environment=environment) == KEY
    assert read_key("oracle", "other", "ORACLE_KEY", where="", environment=environment) == "other"


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_key_the_error_says_how_to_get_one(key: str | None):
    with pytest.raises(ConfigurationError) as raised:
        read_key("oracle", key, "ORACLE_KEY", where="https://keys.test", environment={})

    assert str(raised.value) == (
        "oracle needs an API key: set ORACLE_KEY, or pass api_key=...; keys are made at https://keys.test"
    )


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_what_cannot_be_a_key_is_refused_and_not_shown(key: str):
    with pytest.raises(ConfigurationError, match="characters that no key has") as raised:
        read_key("oracle", key, "ORACLE_KEY", where="https://keys.test")

    assert key not in str(raised.value)
