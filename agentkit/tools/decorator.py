"""`@tool`: makes a function a tool. Knows no model and runs nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Literal, TypeVar, overload

from agentkit.errors import ToolDefinitionError
from agentkit.messages import Origin
from agentkit.tools.base import Approval, Effect, Tool, Trust, check_name
from agentkit.tools.schema import read_signature

Choice = TypeVar("Choice", bound=StrEnum)


@overload
def tool(
    function: Callable[..., Any],
    /,
    *,
    effect: Effect | Literal["read", "write", "external"] = ...,
    approval: Approval | Literal["always", "never"] | None = ...,
    timeout: float = ...,
    retries: int = ...,
    trust: Trust | Literal["untrusted", "trusted"] = ...,
    idempotent: bool = ...,
    origin: Origin | Literal["tool", "memory"] = ...,
    name: str | None = ...,
    description: str | None = ...,
) -> Tool: ...


@overload
def tool(
    *,
    effect: Effect | Literal["read", "write", "external"] = ...,
    approval: Approval | Literal["always", "never"] | None = ...,
    timeout: float = ...,
    retries: int = ...,
    trust: Trust | Literal["untrusted", "trusted"] = ...,
    idempotent: bool = ...,
    origin: Origin | Literal["tool", "memory"] = ...,
    name: str | None = ...,
    description: str | None = ...,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: Effect | Literal["read", "write", "external"] = Effect.EXTERNAL,
    approval: Approval | Literal["always", "never"] | None = None,
    timeout: float = 10.0,
    retries: int = 0,
    trust: Trust | Literal["untrusted", "trusted"] = Trust.UNTRUSTED,
    idempotent: bool = False,
    origin: Origin | Literal["tool", "memory"] = Origin.TOOL,
    name: str | None = None,
    description: str | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool that a model may call.

    The model is told the function's name, its docstring, and its arguments' types and descriptions.

    An async function is cancelled when it runs out of time; it must not block. A plain function runs in a
    worker thread, which cannot be killed: when time is up its result is dropped, but the function goes on by
    itself, and the process waits for it when it exits. One that may take long calls
    `anyio.from_thread.check_cancelled()` now and then, which ends it there.

        @tool(effect="read")
        async def get_current_temperature(location: str) -> float:
            '''Get the current temperature at a location, given as "City, Country".'''
            return 22.0

    Args:
        function: The function, when used without parentheses or as `tool(object.method)`.
        effect: What a call changes. A function that only reads should say `read`: such calls run side by
            side, may be retried, and are the least likely to need approval. What is not declared counts as
            `external`.
        approval: `always` asks a person for every call. None leaves it to the policy, and so does `never`
            where the policy asks.
        timeout: How many seconds one attempt may take.
        retries: How often a call that failed with an exception is tried again; only for `effect="read"`. A
            `ToolError` is an answer and a timeout is final: neither is tried again.
        trust: `trusted` vouches that results carry nobody else's words. Everything fetched is `untrusted`.
        idempotent: Calls with one `current_call().idempotency_key` have their effect once, however often they
            are made: after a crash a call without a known result is made again instead of asking a person.
        origin: `memory` for a tool over long-term memory: its results are judged at stage `memory` instead of
            `tool_result`.
        name: The name for the model; the function's own by default.
        description: What the tool does; the docstring's text by default.

    Raises:
        ToolDefinitionError: if the function cannot become a tool; the message says what to change.
    """

    def decorate(function: Callable[..., Any]) -> Tool:
        tool_name = _name(function) if name is None else name
        check_name(tool_name)
        _check_function(function, tool_name)
        signature = read_signature(function, name=tool_name)
        return Tool(
            name=tool_name,
            description=signature.description or "" if description is None else description,
            parameters=signature.parameters,
            function=function,
            effect=_choice(Effect, "effect", effect, tool_name),
            approval=None if approval is None else _choice(Approval, "approval", approval, tool_name),
            timeout=timeout,
            retries=retries,
            trust=_choice(Trust, "trust", trust, tool_name),
            idempotent=idempotent,
            origin=_choice(Origin, "origin", origin, tool_name),
            code_arguments=signature.code_arguments,
            types=signature.types,
        )

    return decorate if function is None else decorate(function)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _check_function(function: Callable[..., Any], name: str) -> None:
    if isinstance(function, Tool):
        raise ToolDefinitionError(f"tool {name}: is a tool already; write @tool once")
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise ToolDefinitionError(
            f"tool {name}: needs a function, got {type(function).__name__}; wrap it in a def"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ToolDefinitionError(
            f"tool {name}: yields values; return one value instead, for instance a list"
        )


def _choice(kind: type[Choice], option: str, value: str, name: str) -> Choice:
    try:
        return kind(value)
    except ValueError as error:
        allowed = ", ".join(f'"{choice}"' for choice in kind)
        raise ToolDefinitionError(f"tool {name}: {option} must be one of {allowed}, got {value!r}") from error
