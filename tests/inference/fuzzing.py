"""What must hold for any model output and for any conversation: the targets of the fuzzer and of its seeds."""

from __future__ import annotations

import json

from agentkit.inference.formats.base import ParsedOutput
from agentkit.inference.formats.call_parser import PYTHON_TAG, CallParser
from agentkit.messages import ToolSpec

TOOLS = tuple(
    ToolSpec(name=name, description="", parameters={})
    for name in ("get_weather", "get_time", "brave_search", "code_interpreter")
)
OUTPUT_SEEDS = (
    '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "get_time", "arguments": {}}',
    'Sure: {"type": "function", "function": {"name": "get_time", "parameters": {}}}\nDone.',
    '[{"name": "get_weather", "parameters": {"city": "\\u00e9\\ud83e\\udd99"}}, {"name": "nope", "parameters": {}}]',
    '```json\n{"name": "get_time", "parameters": {}}\n```\n```python\nx = 1\n```\n> quoted',
    '<function=get_weather>{"city": "a\\"b"}</function><function=get_time></function>',
    "[get_weather(city='it\\'s', days=[1, {'a': None}]), get_time()]",
    'Let me see.\ufdd0brave_search.call(query="say \\"hi\\"")',
    "\ufdd0print('hi')\n",
    "{'name': 'get_weather', 'parameters': {'city': NaN}}",
    '{name: "get_weather", parameters: {}} `{"name"` "<|python_tag|>"',
    '{"answer": {"name": "get_time", "parameters": {}}}\n[1, 2]\n{{ x }}',
)


def check_output(data: bytes) -> None:
    """Check that an output means the same whole and in pieces, and that nothing of it is lost or let through."""
    sizes, text = [1 + size % 9 for size in data[:4]] or [1], data[4:].decode("utf-8", "ignore")
    for tools in (TOOLS, None):
        whole = _parsed(text, tools, [max(1, len(text))])
        assert _parsed(text, tools, sizes) == whole
        assert PYTHON_TAG not in whole.content
        json.dumps([call.arguments for call in whole.calls], allow_nan=False, ensure_ascii=False).encode()
        if not whole.calls and not whole.issues:
            assert whole.content == text
        if tools is not None:
            assert {call.name for call in whole.calls} <= {tool.name for tool in tools}


def _parsed(text: str, tools: tuple[ToolSpec, ...] | None, sizes: list[int]) -> ParsedOutput:
    parser = CallParser(tools)
    visible, pos, turn = "", 0, 0
    while pos < len(text):
        size = sizes[turn % len(sizes)]
        visible += parser.feed(text[pos : pos + size])
        pos, turn = pos + size, turn + 1
    rest, parsed = parser.finish()
    assert visible + rest == parsed.content
    return parsed
