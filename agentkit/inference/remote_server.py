"""One model server over HTTP: JSON there, JSON or a stream of events back. Knows no tokens and no model.

The API key, and what is asked, are in no error, no log and no `repr`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import httpx

from agentkit.errors import ConfigurationError, InferenceError, RemoteError
from agentkit.inference.remote_faults import broken_off, refused, unreachable

API_KEY_VARIABLE: Final = "AGENTKIT_API_KEY"
"""The environment variable with the key of a server, where none is given."""

_DONE: Final = "[DONE]"
_asking: ContextVar[bool] = ContextVar("agentkit_asking_a_model_server", default=False)

Answer = TypeVar("Answer")


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _asking.get()


# httpx logs every address that it asks.
logging.getLogger("httpx").addFilter(_is_not_ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTimeouts:
    """How many seconds a server may take: to accept a connection, for its first token, for each one after it.

    `retrying` is for how long a request is tried again after a transient fault; 0 never tries again.
    """

    connect: float = 10.0
    first_token: float = 120.0
    next_token: float = 60.0
    retrying: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connect", "first_token", "next_token"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"timeouts.{name} must be above 0, got {getattr(self, name)!r}")
        if not self.retrying >= 0:
            raise ConfigurationError(f"timeouts.retrying must be at least 0, got {self.retrying!r}")


def key_of(api_key: str | None) -> str | None:
    """Return the key that was given, or that of the environment; None where there is none."""
    return (os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key) or None


class ModelServer:
    """Asks one server. No connection outlives its answer, so that every event loop may ask, one after another."""

    def __init__(self, base_url: str, api_key: str | None, timeouts: RemoteTimeouts) -> None:
        self._root = _root(base_url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigurationError(
                f"the API key ({len(api_key)} characters) has spaces or characters that no key has"
            )
        self._timeouts = timeouts
        self._closed = False
        self._waiting: set[anyio.CancelScope] = set()
        self._client = httpx.AsyncClient(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(None, connect=timeouts.connect),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    def __str__(self) -> str:
        return f"the server at {self._root}"

    async def get(self, path: str) -> Any:
        """Return the JSON that a path answers.

        Raises:
            InferenceError: if there is none.
        """
        return await self._answer(self._client.build_request("GET", f"{self._root}{path}"))

    async def post(
        self, path: str, body: Mapping[str, Any], *, prompt_tokens: int = 0, context_length: int = 0
    ) -> Any:
        """Return the JSON that a path answers to a body. The numbers are for the error of a prompt too long.

        Raises:
            InferenceError: if there is none.
        """
        return await self._answer(self._posted(path, body), prompt_tokens, context_length)

    async def stream(
        self, path: str, body: Mapping[str, Any], *, prompt_tokens: int = 0, context_length: int = 0
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Give the events of an answer as they come; closing the iterator ends the request.

        Raises:
            InferenceError: if the server refuses, breaks off or falls silent.
        """
        request = self._posted(path, body)
        seconds = self._timeouts.first_token
        response = await self._bounded(lambda: self._client.send(request, stream=True), seconds)
        try:
            if response.status_code != httpx.codes.OK:
                await self._bounded(response.aread, seconds)
                raise refused(str(self), response, prompt_tokens=prompt_tokens, context_length=context_length)
            lines = response.aiter_lines()
            while (line := await self._bounded(lambda: _next(lines), seconds)) is not None:
                event = self._event(line)
                if event is not None:
                    yield event
                    seconds = self._timeouts.next_token
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def close(self) -> None:
        """End every call in progress, and take none any more."""
        self._closed = True
        for scope in self._waiting:
            scope.cancel()
        await self._client.aclose()

    def _posted(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        return self._client.build_request("POST", f"{self._root}{path}", json=dict(body))

    async def _answer(self, request: httpx.Request, prompt_tokens: int = 0, context_length: int = 0) -> Any:
        response = await self._bounded(lambda: self._client.send(request), self._timeouts.first_token)
        if response.status_code != httpx.codes.OK:
            raise refused(str(self), response, prompt_tokens=prompt_tokens, context_length=context_length)
        try:
            return response.json()
        except ValueError:
            problem = f"{self} answered {len(response.content)} bytes that are not JSON"
        raise RemoteError(problem, status=response.status_code)

    async def _bounded(self, ask: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
        """Return what httpx gives, within so many seconds.

        Raises:
            RemoteError: if it gives nothing.
            InferenceError: if this is closed, now or meanwhile.
        """
        self._check_open()
        silent = _asking.set(True)
        try:
            with anyio.move_on_after(seconds) as scope:
                self._waiting.add(scope)
                return await ask()
            failure: InferenceError = RemoteError(
                f"{self} said nothing for {seconds:g} seconds", transient=True
            )
        except (httpx.HTTPError, httpx.StreamError) as error:
            failure = unreachable(str(self), error)
        finally:
            self._waiting.discard(scope)
            _asking.reset(silent)
        # Raised here, without a cause or a context: theirs hold the request, and so the key and the prompt.
        self._check_open()
        raise failure

    def _check_open(self) -> None:
        if self._closed:
            raise InferenceError("the engine is closed")

    def _event(self, line: str) -> Mapping[str, Any] | None:
        """Return the event of a line of `text/event-stream`; None if it has none.

        Raises:
            RemoteError: if it is an error, or no JSON.
        """
        field, _, data = line.partition(":")
        if field != "data" or data.strip() == _DONE:
            return None
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise RemoteError(f"{self} sent {len(data)} characters that are no event", transient=True)
        if event.get("error") is not None:
            raise broken_off(str(self), event["error"])
        return event


async def _next(lines: AsyncIterator[str]) -> str | None:
    return await anext(lines, None)


def _root(base_url: str) -> str:
    """Return the address without `/v1`, which some give and some do not.

    Raises:
        ConfigurationError: if it is no address of a server, or holds a password.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.userinfo:
        raise ConfigurationError("base_url holds a user or a password; pass api_key instead")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ConfigurationError(f"base_url must be like http://127.0.0.1:8000/v1, got {base_url!r}")
    return str(url).rstrip("/").removesuffix("/v1").rstrip("/")
