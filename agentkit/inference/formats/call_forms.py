"""How calls are written in each tool format. What stands here, the parser of outputs reads back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from agentkit.errors import ConfigurationError
from agentkit.messages import ToolCall

ToolFormat = Literal["json", "function_tag", "python_list", "builtin"]
"""`{"name": ...}`, `<function=name>{...}</function>`, `[name(a="b")]` or `name.call(a="b")`."""

ToolsIn = Literal["system", "user"]
ResultStyle = Literal["verbatim", "json"]

EXAMPLES: Mapping[ToolFormat, str] = {
    "json": '{"name": function name, "parameters": dictionary of argument name and its value}',
    "function_tag": '<function=function name>{"argument name": value}</function>',
    "python_list": '[function_name(argument_name="value")]',
    "builtin": 'function_name.call(argument_name="value")',
}
"""What a prompt shows as the form of a call."""

JsonWriter = Callable[[ToolCall], str]


def check_option(option: str, value: str, kind: Any) -> None:
    """Accept a value of a closed set.

    Raises:
        ConfigurationError: naming the values that there are.
    """
    if value not in get_args(kind):
        raise ConfigurationError(f"{option} must be one of {', '.join(get_args(kind))}, got {value!r}")


def write_calls(
    calls: Sequence[ToolCall], tool_format: ToolFormat, *, separator: str, write_json: JsonWriter
) -> str:
    """Return the calls of one message in a tool format; a dialect has its own way of writing JSON calls."""
    match tool_format:
        case "json":
            return separator.join(map(write_json, calls))
        case "function_tag":
            return "".join(f"<function={call.name}>{_json(call.arguments)}</function>" for call in calls)
        case "python_list":
            return f"[{', '.join(f'{call.name}({python_arguments(call)})' for call in calls)}]"
        case "builtin":
            return separator.join(f"{call.name}.call({python_arguments(call)})" for call in calls)


def python_arguments(call: ToolCall) -> str:
    """Return `name=value` for every argument, the values as Python literals."""
    return ", ".join(f"{name}={_literal(value)}" for name, value in call.arguments.items())


def result_content(content: str, style: ResultStyle) -> str:
    """Return a tool's result as it is, or as a JSON string."""
    return content if style == "verbatim" else json.dumps(content, ensure_ascii=False)


def _literal(value: object) -> str:
    match value:
        case dict():
            return f"{{{', '.join(f'{_literal(key)}: {_literal(item)}' for key, item in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return repr(value)


def _json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(dict(arguments), ensure_ascii=False)
