"""Offered tools, calls of them, and what the parser makes of an output: for the tests of parsing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentkit.inference.formats.base import ParsedOutput
from agentkit.inference.formats.call_parser import CallParser
from agentkit.messages import ToolSpec

TOOLS = [
    ToolSpec(name=name, description="", parameters={})
    for name in ("get_weather", "get_time", "brave_search", "code_interpreter")
]
CALL = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
OTHER = '{"name": "get_time", "parameters": {}}'
PARIS = ("get_weather", {"city": "Paris"})


def parse(
    text: str,
    *,
    tools: Sequence[ToolSpec] | None = TOOLS,
    truncated: bool = False,
    size: int | None = None,
) -> ParsedOutput:
    parser = CallParser(tools)
    pieces = [text] if size is None else [text[i : i + size] for i in range(0, len(text), size)]
    visible = "".join(parser.feed(piece) for piece in pieces)
    rest, parsed = parser.finish(truncated=truncated)
    assert visible + rest == parsed.content
    return parsed


def calls_of(parsed: ParsedOutput) -> list[tuple[str, dict[str, Any]]]:
    assert parsed.issues == ()
    return [(call.name, call.arguments) for call in parsed.calls]
