"""One question to a web service: bounded in time and size, asked again where that helps. Knows no service by name.

The API key, and what is asked, are in no error, no log and no `repr`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import anyio
import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from agentkit.errors import ConfigurationError, ToolError
from agentkit.retry_after import retry_after

TOOL_SECONDS: Final = 30.0
"""How long a tool over a service may take, all attempts and waits together."""
MAX_BODY_BYTES: Final = 1_000_000
MAX_WAIT_SECONDS: Final = 8.0
_ATTEMPTS: Final = 3
_TIMEOUT: Final = httpx.Timeout(8.0, connect=4.0)
_BACKOFF: Final = wait_random_exponential(multiplier=0.25, max=2.0)

_asking: ContextVar[bool] = ContextVar("agentkit_asking_a_service", default=False)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _asking.get()


# httpx logs every address that it asks: the words of the question, and Wolfram Alpha's key.
logging.getLogger("httpx").addFilter(_is_not_ours)


class _BusyError(ToolError):
    """The service could not answer just now; `seconds` is how long it asks to wait, if it says so."""

    def __init__(self, message: str, *, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A web service that answers GET requests. `name` is what errors call it, `key_variable` where its key is from."""

    name: str
    url: str
    key_variable: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    async def get(self, params: Mapping[str, str]) -> bytes:
        """Return the body of the answer to one question.

        Asked again are a failed connection, a timeout, status 429 and 5xx: twice at most, after the time that the
        service asks for, if that is short. Redirects are not followed: the key is for this address alone.

        Raises:
            ToolError: if there is no usable answer; the message is safe for the model.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_wait,
            retry=retry_if_exception_type(_BusyError),
            sleep=anyio.sleep,
            reraise=True,
        )
        token = _asking.set(True)
        try:
            body: bytes = await retrying(self._ask, params)
        finally:
            _asking.reset(token)
        return body

    async def _ask(self, params: Mapping[str, str]) -> bytes:
        try:
            async with (
                httpx.AsyncClient(timeout=_TIMEOUT, headers=self.headers) as client,
                client.stream("GET", self.url, params=params) as response,
            ):
                self._check(response)
                return await self._body(response)
        except httpx.TimeoutException:
            problem = "did not answer in time; try again later"
        except (httpx.HTTPError, httpx.StreamError) as error:
            problem = f"could not be reached ({type(error).__name__})"
        # Raised here, without a cause or a context: theirs hold the request, and so the key.
        raise _BusyError(f"{self.name} {problem}")

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= 500:
            seconds = retry_after(response.headers.get("Retry-After"), now=datetime.now(UTC))
            why = "was asked too often" if status == httpx.codes.TOO_MANY_REQUESTS else "is out of order"
            if seconds is not None and seconds > MAX_WAIT_SECONDS:
                raise ToolError(
                    f"{self.name} {why} (status {status}); it can be asked again in {seconds:.0f} seconds"
                )
            raise _BusyError(f"{self.name} {why} (status {status}); try again later", seconds=seconds)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ToolError(
                f"{self.name} refused the API key (status {status}); the operator has to check {self.key_variable}"
            )
        raise ToolError(f"{self.name} did not take the query (status {status}); put it in other words")

    async def _body(self, response: httpx.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise ToolError(
                    f"the answer of {self.name} is larger than {MAX_BODY_BYTES} bytes; ask for less"
                )
            parts.append(part)
        return b"".join(parts)


def read_key(
    tool_name: str,
    api_key: str | None,
    variable: str,
    *,
    where: str,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return the key that was given, or that of the environment.

    Raises:
        ConfigurationError: if there is none, or it cannot be one; it is not shown.
    """
    key = (environment.get(variable, "") if api_key is None else api_key).strip()
    if not key:
        raise ConfigurationError(
            f"{tool_name} needs an API key: set {variable}, or pass api_key=...; keys are made at {where}"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(
            f"the API key of {tool_name} ({len(key)} characters) has spaces or characters that no key has"
        )
    return key


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    seconds = error.seconds if isinstance(error, _BusyError) else None
    return _BACKOFF(state) if seconds is None else seconds
