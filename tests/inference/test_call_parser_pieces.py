"""Outputs read in pieces mean what they mean whole, and take linear time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.inference.formats.call_parser import PYTHON_TAG, CallParser
from tests.inference.parsing import CALL, OTHER, TOOLS, calls_of, parse


def test_a_line_is_visible_until_a_call_may_begin():
    parser = CallParser(TOOLS)
    assert parser.feed("It is {") == "It is"
    assert parser.feed("warm.\n") == " {warm."
    assert parser.feed('{"na') == ""
    assert parser.feed("tion") == '\n{"nation'
    assert parser.feed('": 1}') == '": 1}'


FRAGMENTS = [
    CALL, CALL[:-1], OTHER, "\n", "\n\n", " ", "; ", ",", "[", "]", "{", "}", '"', "\\", "`", "```", "```json\n",
    "\n```\n", "{}", '{"a": 1}', '{"name"', '{"name": "x", "parameters": {}}',
    "<function=", "get_weather>", "</function>",
    "<|python_tag|>", "brave_search", ".call(", 'query="a"', ")", "text", PYTHON_TAG, "é🦙", "print(1)",
    "[get_time(", "a='b'", "[f(x=1)]", ")]", "'", "> ", "`", "Sure: ", "{'name': ", "{name: ", '{"type": "function", ',
]  # fmt: skip


def outputs() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=12).map("".join)


@given(text=outputs(), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), truncated=st.booleans())
def test_any_pieces_give_the_same_text_and_calls(text, sizes, truncated):
    parser = CallParser(TOOLS)
    visible, pos, turn = "", 0, 0
    while pos < len(text):
        visible += parser.feed(text[pos : pos + sizes[turn % len(sizes)]])
        pos, turn = pos + sizes[turn % len(sizes)], turn + 1
    rest, parsed = parser.finish(truncated=truncated)
    assert visible + rest == parsed.content
    assert parsed == parse(text, truncated=truncated)


@given(text=outputs())
def test_calls_name_offered_tools_and_the_tag_stays_inside(text):
    parsed = parse(text)
    assert {call.name for call in parsed.calls} <= {tool.name for tool in TOOLS}
    assert PYTHON_TAG not in parsed.content
    json.dumps([call.arguments for call in parsed.calls], allow_nan=False).encode()


@given(text=st.text(alphabet=st.characters(exclude_characters='{[<`"' + PYTHON_TAG)))
def test_text_without_brackets_quotes_and_fences_passes_unchanged(text):
    assert parse(text).content == text


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        "{\n",
        "[",
        "[{",
        '{"',
        '{"name":',
        '{"name":{',
        '{"name": {"parameters": ',
        "<",
        "```json\n{",
        "\n",
        "[get_time(",
        "[get_time(a=1),",
        "<function=",
        "<function=a>{",
        " [",
        " {",
        "`",
        "```\n",
        ";",
        '"',
        "'",
        "\\",
        "brave_search.call(",
        'brave_search.call(query="',
        " get_time",
        f"{CALL} x",
        f" {CALL} x",
        f" {CALL}",
        f"{CALL};",
    ],
)
@pytest.mark.parametrize("size", [None, 7])
def test_repeated_markup_takes_linear_time(unit, size):
    text = unit * (200_000 // len(unit))
    began = time.process_time()
    parse(text, size=size)
    assert time.process_time() - began < 10.0  # about 0.1 s; quadratic time would be minutes


@pytest.mark.parametrize("unit", ["{", "[", "{}"])
def test_a_megabyte_of_braces_takes_linear_time(unit):
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    parse(text)
    assert time.process_time() - began < 10.0  # about 0.2 s


def test_a_megabyte_of_arguments_takes_linear_time():
    text = "brave_search.call(" + ", ".join(f'a{index}="x"' for index in range(90_000)) + ")"
    began = time.process_time()
    assert len(calls_of(parse(text))[0][1]) == 90_000
    assert time.process_time() - began < 30.0
