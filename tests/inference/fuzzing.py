"""What must hold for any model output and for any conversation: the targets of the fuzzer and of its seeds."""

from __future__ import annotations

import json
from functools import cache

from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import Format, ParsedOutput
from agentkit.inference.formats.call_parser import PYTHON_TAG, CallParser
from agentkit.inference.formats.llama import REQUIRED_SPECIALS
from agentkit.messages import Message, ToolCall, ToolSpec
from tests.inference.conversations import llama3, special_ids_in

TOOLS = tuple(
    ToolSpec(name=name, description="", parameters={})
    for name in ("get_weather", "get_time", "brave_search", "code_interpreter")
)
ALLOWED = frozenset(REQUIRED_SPECIALS) - {"<|end_of_text|>"}
"""The special tokens that prompts are made of."""

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
PROMPT_SEEDS = (
    "\x00Be brief.\x01Hello <|eot_id|>\x02Hi!",
    '\x01How warm is it?\x03Paris\x04{"ok": 22.0}\x02Warm. <|python_tag|>\x01\n\n thanks \t',
    '\x00<|begin_of_text|>\x01\ufdd00\ufdd2\u2003\x03a"b\\\x03\U0001f999\x04<|start_header_id|>',
)
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
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


def check_prompt(data: bytes) -> None:
    """Check in a dialect that content forges nothing, that turn by turn is whole, and that calls are read back."""
    text = data[2:].decode("utf-8", "ignore")
    dialects = _dialects()
    dialect = dialects[data[0] % len(dialects)] if data else dialects[0]
    messages = _conversation(text)
    tools = [
        ToolSpec(name="get_weather", description=text[:20], parameters={"properties": {text[20:40]: {}}})
    ]
    tools = tools[: data[1] % 2] if len(data) > 1 else []
    whole = dialect.render(messages, tools=tools)
    ids: list[int] = []
    for index in range(len(messages)):
        ids += dialect.render(messages[: index + 1], tools=tools, start=index, add_generation_prompt=False)
    assert ids + dialect.render(messages, tools=tools, start=len(messages)) == whole
    names = special_ids_in(llama3(), whole)
    ends = names.count("<|eot_id|>") + names.count("<|eom_id|>")
    assert names.count("<|begin_of_text|>") == 1
    assert names.count("<|start_header_id|>") == names.count("<|end_header_id|>") == ends + 1
    assert set(names) <= ALLOWED
    _check_read_back(dialect, text)


def _check_read_back(dialect: Format, text: str) -> None:
    city = text.replace(PYTHON_TAG, "")
    call = ToolCall(id="1", name="get_weather", arguments={"city": city, "more": [city, {city: None}]})
    ids = dialect.render(
        [Message.user("?"), Message.assistant("", (call,))], start=1, add_generation_prompt=False
    )
    parser = dialect.parser(TOOLS)
    spoken = ids[ids.index(llama3().special_ids["<|end_header_id|>"]) + 1 :]
    parser.feed(dialect.output_text(spoken))
    _, parsed = parser.finish()
    assert [(read.name, read.arguments) for read in parsed.calls] == [(call.name, call.arguments)]
    assert not parsed.content.strip()


@cache
def _dialects() -> list[Format]:
    formats = ("json", "function_tag", "python_list", "builtin")
    llama = [
        format_for(llama3(), name, tool_format=tool_format, tools_in=place)
        for name in ("hf-3.1", "hf-3.2", "meta")
        for tool_format in formats
        for place in ("system", "user")
    ]
    others = [
        format_for(llama3(), "template", template=PLAIN_TEMPLATE, tool_format=tool_format)
        for tool_format in formats
    ]
    return [*llama, *others]


def _conversation(text: str) -> list[Message]:
    """Return the messages that control characters part the text into; the first is the user's, after a system's."""
    messages: list[Message] = []
    content = ""
    role = 1
    for char in text + "\x01":
        if ord(char) > 4:
            content += char
            continue
        call = ToolCall(id="call", name="get_weather", arguments={"city": content})
        if role == 0 and not messages:
            messages.append(Message.system(content))
        elif role in (0, 1) or all(message.role == "system" for message in messages):
            messages.append(Message.user(content))
        elif role == 3:
            messages.append(Message.assistant("", (call,)))
        else:
            messages.append(Message.assistant(content) if role == 2 else Message.tool(content, call=call))
        content, role = "", ord(char)
    if len(messages) == 1 and messages[0].role == "system":
        messages.append(Message.user(""))
    return messages


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
