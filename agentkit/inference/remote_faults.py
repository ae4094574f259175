"""What can go wrong between us and a model server: as one kind of error, and how long it is tried again.

No message carries what a server wrote: it may quote the prompt, and the exceptions of httpx hold the API key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import anyio
import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from agentkit.errors import ContextLengthError, InferenceError, RemoteError
from agentkit.retry_after import retry_after

_BACKOFF: Final = wait_random_exponential(multiplier=0.25, max=8.0)
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
_REFUSED_KEY: Final = frozenset({401, 403})
_NOT_TAKEN: Final = frozenset({400, 413, 422})
# vLLM, OpenAI and llama.cpp: they have no code in common.
_TOO_LONG: Final = re.compile(r"maximum context length|context_length_exceeded|exceed_context_size")
_CONTEXT: Final = re.compile(r"(?:context length is|\"n_ctx\":) ?(\d+)")

Answer = TypeVar("Answer")


async def retrying(call: Callable[[], Awaitable[Answer]], *, seconds: float) -> Answer:
    """Call, and call again after a transient fault: for so many seconds, and never past the caller's deadline.

    Raises:
        InferenceError: the last fault, as soon as waiting for another try would take too long.
    """
    left = anyio.current_effective_deadline() - anyio.current_time()
    attempts = AsyncRetrying(
        stop=stop_before_delay(min(seconds, left)),
        wait=_wait,
        retry=retry_if_exception(lambda error: isinstance(error, RemoteError) and error.transient),
        sleep=anyio.sleep,
        reraise=True,
    )

    async def attempt() -> Answer:  # tenacity awaits only what is declared async
        return await call()

    return await attempts(attempt)


def unreachable(server: str, error: httpx.HTTPError | httpx.StreamError) -> RemoteError:
    """Return the error of a connection that was not made, or broke."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return RemoteError(f"{server} cannot be reached ({type(error).__name__})", transient=True)
    return RemoteError(f"the connection to {server} broke ({type(error).__name__})", transient=True)


def refused(
    server: str, response: httpx.Response, *, prompt_tokens: int, context_length: int
) -> InferenceError:
    """Return the error that an answer other than 200 is; the numbers are those of what was asked."""
    status, text = response.status_code, response.text
    if status in _NOT_TAKEN and prompt_tokens and _TOO_LONG.search(text):
        said = _CONTEXT.search(text)
        return ContextLengthError(
            prompt_tokens=prompt_tokens, context_length=int(said[1]) if said else context_length
        )
    if status in _REFUSED_KEY:
        return RemoteError(f"{server} refused the API key (status {status}); check api_key", status=status)
    if status in _TRANSIENT:
        seconds = retry_after(response.headers.get("Retry-After"), now=datetime.now(UTC))
        asked = "" if seconds is None else f", and asks to wait {seconds:.0f} seconds"
        return RemoteError(
            f"{server} is busy or out of order (status {status}{asked})",
            status=status,
            transient=True,
            retry_after=seconds,
        )
    return RemoteError(f"{server} did not take the request (status {status}{_named(text)})", status=status)


def broken_off(server: str, problem: Any) -> RemoteError:
    """Return the error that an `error` object in the middle of a stream is."""
    code = problem.get("code") if isinstance(problem, dict) else None
    status = code if isinstance(code, int) and 100 <= code < 600 else None
    transient = status is None or status in _TRANSIENT
    what = "broke off its answer" + ("" if status is None else f" (status {status})")
    return RemoteError(f"{server} {what}", status=status, transient=transient)


def _named(body: str) -> str:
    """Return what the server calls the problem, and the parameter that it names: identifiers, never sentences."""
    try:
        error = json.loads(body)["error"]
        said = [error.get(key) for key in ("type", "param")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    names = [name for name in said if isinstance(name, str) and re.fullmatch(r"[A-Za-z_.]{1,40}", name)]
    return "".join(f", {name}" for name in names)


def _wait(state: RetryCallState) -> float:
    """Return how long to wait: what the server asks for, and a random time that grows with every try."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, RemoteError) else None
    return _BACKOFF(state) + (asked if asked is not None and math.isfinite(asked) else 0.0)
