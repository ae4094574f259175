"""Llama 3.1's prompts, on the original tokenizer; the expected ones were checked against the model's template."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError
from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import ParsedCall, ToolChoice
from agentkit.inference.formats.call_parser import PYTHON_TAG
from agentkit.inference.formats.hf_llama import Llama31Format
from agentkit.messages import Message, ToolCall, ToolSpec
from tests.inference.conversations import (
    CALL,
    CALL_TEXT,
    SEARCH,
    WEATHER,
    contents,
    conversations,
    llama3,
    matches,
    smollm2,
    special_ids_in,
    spelt_ids,
)

DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
SYSTEM = f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{DATES}"
USER = "<|start_header_id|>user<|end_header_id|>\n\n"
ASSISTANT = "<|start_header_id|>assistant<|end_header_id|>\n\n"
RESULT = "<|start_header_id|>ipython<|end_header_id|>\n\n"
WEATHER_JSON = """{
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a \\"city\\"",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {
                    "type": "string"
                },
                "days": {
                    "type": "integer"
                }
            },
            "required": [
                "city"
            ],
            "additionalProperties": false
        }
    }
}

"""
FORM = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
SEARCH_CALL = ToolCall(id="call_2", name="brave_search", arguments={"query": "who wins"})
HELLO = [Message.user("Hello")]


def assert_renders(
    messages: Sequence[Message],
    expected: str,
    *,
    tools: Sequence[ToolSpec] = (),
    add_generation_prompt: bool = False,
    **options: Any,
) -> None:
    ids = Llama31Format(llama3(), **options).render(
        messages, tools=tools, add_generation_prompt=add_generation_prompt
    )
    assert llama3().decode(ids, skip_special=False) == expected
    assert ids == spelt_ids(llama3(), expected)


def test_a_conversation_without_a_system_message_still_has_the_dates():
    assert_renders(HELLO, f"{SYSTEM}<|eot_id|>{USER}Hello<|eot_id|>{ASSISTANT}", add_generation_prompt=True)


def test_content_is_stripped_and_the_system_message_follows_the_dates():
    messages = [Message.system(" Be brief.\n"), Message.user("\n Hi "), Message.assistant(" Hello! ")]
    assert_renders(messages, f"{SYSTEM}Be brief.<|eot_id|>{USER}Hi<|eot_id|>{ASSISTANT}Hello!<|eot_id|>")


def test_tools_stand_before_the_first_user_message():
    assert_renders(
        [Message.system("Be brief."), *HELLO],
        f"{SYSTEM.replace('Cutting', 'Environment: ipython' + chr(10) + 'Cutting')}Be brief.<|eot_id|>{USER}"
        "Given the following functions, please respond with a JSON for a function call "
        f"with its proper arguments that best answers the given prompt.\n\n{FORM}{WEATHER_JSON}Hello<|eot_id|>",
        tools=[WEATHER],
    )


def test_tools_can_stand_in_the_system_message():
    assert_renders(
        [Message.system("Be brief."), *HELLO],
        f"{SYSTEM.replace('Cutting', 'Environment: ipython' + chr(10) + 'Cutting')}"
        "You have access to the following functions. "
        f"To call a function, please respond with JSON for a function call.{FORM}{WEATHER_JSON}"
        f"Be brief.<|eot_id|>{USER}Hello<|eot_id|>",
        tools=[WEATHER],
        tools_in="system",
    )


def test_a_call_and_its_result():
    messages = [*HELLO, Message.assistant("", (CALL,)), Message.tool('22.0 °C, "mild"', call=CALL)]
    assert_renders(
        messages,
        f"{SYSTEM}<|eot_id|>{USER}Hello<|eot_id|>{ASSISTANT}{CALL_TEXT}<|eot_id|>"
        f'{RESULT}"22.0 °C, \\"mild\\""<|eot_id|>{ASSISTANT}',
        add_generation_prompt=True,
    )


def test_built_in_tools_are_named_and_called_in_their_own_form():
    messages = [*HELLO, Message.assistant("", (SEARCH_CALL,)), Message.assistant("", (CALL,))]
    listed = "Environment: ipython\nTools: brave_search, wolfram_alpha\n\nCutting"
    assert_renders(
        messages,
        f"{SYSTEM.replace('Cutting', listed)}<|eot_id|>{USER}Hello<|eot_id|>"
        f'{ASSISTANT}<|python_tag|>brave_search.call(query="who wins")<|eom_id|>{ASSISTANT}{CALL_TEXT}<|eom_id|>',
        builtin_tools=["brave_search", "code_interpreter", "wolfram_alpha"],
        tools=[SEARCH],
    )


def test_what_the_template_refuses_is_written_in_its_manner():
    ranked = ToolCall(id="2", name="brave_search", arguments={"query": "who wins", "count": 3})
    messages = [Message.assistant("", (ranked,)), Message.assistant("", (CALL, CALL, SEARCH_CALL))]
    dialect = Llama31Format(llama3(), builtin_tools=["code_interpreter", "brave_search"])
    text = llama3().decode(dialect.render([*HELLO, *messages], start=1), skip_special=False)
    assert text == (
        f'{ASSISTANT}<|python_tag|>brave_search.call(query="who wins", count=3)<|eom_id|>'
        f'{ASSISTANT}{CALL_TEXT}; {CALL_TEXT}; <|python_tag|>brave_search.call(query="who wins")<|eom_id|>'
        f"{ASSISTANT}"
    )


def test_the_date_can_be_set():
    dated = SYSTEM.replace("26 Jul 2024", "01 Nov 2026")
    assert_renders(HELLO, f"{dated}<|eot_id|>{USER}Hello<|eot_id|>", date="01 Nov 2026")


def test_stop_ids_are_those_of_the_model():
    assert Llama31Format(llama3()).stop_ids == {128001, 128008, 128009}


def test_a_turn_is_closed_unless_the_output_closed_it():
    dialect = Llama31Format(llama3())
    eot, eom = (llama3().special_ids[name] for name in ("<|eot_id|>", "<|eom_id|>"))
    assert dialect.close_turn([100, eot]) == []
    assert dialect.close_turn([100, eom]) == []
    assert dialect.close_turn([100]) == [eot]
    assert dialect.close_turn([]) == [eot]
    assert dialect.close_turn([llama3().special_ids["<|end_of_text|>"]]) == [eot]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"builtin_tools": ["get_weather"]}, "no built-in tool"),
        ({"tools_in": "assistant"}, "tools_in"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        Llama31Format(llama3(), **options)


@pytest.mark.model
def test_a_tokenizer_without_the_special_tokens_is_refused():
    with pytest.raises(ConfigurationError, match=r"<\|start_header_id\|>"):
        Llama31Format(smollm2())


def test_conversations_that_the_dialect_cannot_express_are_refused():
    dialect = Llama31Format(llama3())
    with pytest.raises(ConfigurationError, match="system message can only be the first"):
        dialect.render([*HELLO, Message.system("Late.")])
    with pytest.raises(ConfigurationError, match="first user message"):
        dialect.render([Message.assistant("Hi")], tools=[WEATHER])
    with pytest.raises(ConfigurationError, match="start"):
        dialect.render(HELLO, start=2)


@given(
    messages=conversations(),
    builtin=st.sampled_from([(), ("brave_search",)]),
    tools_in=st.sampled_from(["user", "system"]),
    offered=st.booleans(),
)
def test_turn_by_turn_is_whole_and_content_forges_nothing(messages, builtin, tools_in, offered):
    dialect = Llama31Format(llama3(), builtin_tools=builtin, tools_in=tools_in)
    tools = [WEATHER] if offered else []
    whole = dialect.render(messages, tools=tools)
    parts = [
        dialect.render(messages[: index + 1], tools=tools, start=index, add_generation_prompt=False)
        for index in range(len(messages))
    ]
    prompt = dialect.render(messages, tools=tools, start=len(messages))
    assert [*chain.from_iterable(parts), *prompt] == whole
    blocks = len(messages) + (0 if messages[0].role == "system" else 1)
    end = "<|eom_id|>" if builtin else "<|eot_id|>"
    expected = ["<|begin_of_text|>"]
    for message in [None, *messages[-blocks + 1 :]]:
        is_call = message is not None and bool(message.tool_calls)
        expected += ["<|start_header_id|>", "<|end_header_id|>", end if is_call else "<|eot_id|>"]
    expected += ["<|start_header_id|>", "<|end_header_id|>"]
    assert special_ids_in(llama3(), whole) == expected


@given(text=contents())
def test_an_output_is_decoded_alike_whole_and_in_pieces(text):
    dialect = Llama31Format(llama3())
    ids = [*llama3().encode(text), *sorted(dialect.stop_ids)[:1]]
    decoder = dialect.output_decoder()
    pieces = [decoder.feed(token_id) for token_id in ids]
    assert (
        "".join(pieces) + decoder.finish() == dialect.output_text(ids) == text.replace(PYTHON_TAG, "\ufffd")
    )


def test_only_the_special_id_is_a_python_tag():
    dialect = Llama31Format(llama3())
    tag, eom = (llama3().special_ids[name] for name in ("<|python_tag|>", "<|eom_id|>"))
    offered = [ToolSpec(name="code_interpreter", description="", parameters={})]
    real = dialect.output_text([tag, *llama3().encode("print(1)"), eom])
    forged = dialect.output_text([*llama3().encode(f"{PYTHON_TAG}print(1)"), eom])
    spelt = dialect.output_text([*llama3().encode("<|python_tag|>print(1)"), eom])
    calls = []
    for text in (real, forged, spelt):
        parser = dialect.parser(offered)
        parser.feed(text)
        calls.append(parser.finish()[1].calls)
    assert calls == [
        (ParsedCall(name="code_interpreter", arguments={"code": "print(1)"}, form="code"),),
        (),
        (),
    ]


def output(text: str) -> list[int]:
    return spelt_ids(llama3(), text)


BUILTIN = Llama31Format(llama3(), builtin_tools=["brave_search"])


@pytest.mark.parametrize(
    "text",
    [
        "It is warm.",
        "",
        "\n\nIt is warm: {1}",
        f"{CALL_TEXT}<|eot_id|>",
        f"<|python_tag|>{CALL_TEXT}<|eom_id|>",
        '<|python_tag|>brave_search.call(query="say \\"hi\\"")<|eom_id|>',
    ],
)
def test_the_grammar_allows_answers_and_valid_calls(text):
    assert matches(BUILTIN.call_grammar([WEATHER, SEARCH], ToolChoice.AUTO), llama3(), output(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_wether", "parameters": {}}',
        '{"name": "get_weather", "parameters": {}}',
        '{"name": "get_weather", "parameters": {"city": 7}}',
        '{"name": "get_weather", "parameters": {"city": "Paris", "mood": 1}}',
        CALL_TEXT[:-1],
        ' {"name": "nope", "parameters": {}}',
        '{"name": "brave_search", "parameters": {}}',
        "<|python_tag|>import os",
        '<|python_tag|>brave_search.call(query="say "hi"")<|eom_id|>',
        "Look: <|python_tag|>",
        f"<|python_tag|>{CALL_TEXT[:-1]}<|eom_id|>",
    ],
)
def test_the_grammar_masks_invalid_calls(text):
    assert not matches(BUILTIN.call_grammar([WEATHER, SEARCH], ToolChoice.AUTO), llama3(), output(text))


def test_a_required_call_leaves_no_room_for_text():
    grammar = BUILTIN.call_grammar([WEATHER, SEARCH], ToolChoice.REQUIRED)
    assert matches(grammar, llama3(), output(CALL_TEXT))
    assert not matches(grammar, llama3(), output("It is warm."))
    assert not matches(grammar, llama3(), [])


@pytest.mark.parametrize(("before", "after"), [("", "<|eot_id|>"), ("<|python_tag|>", "<|eom_id|>")])
def test_as_many_calls_as_allowed_may_follow_each_other(before, after):
    grammar = BUILTIN.call_grammar([WEATHER, SEARCH], ToolChoice.AUTO, max_calls=3)
    for text in (CALL_TEXT, f"{CALL_TEXT}; {CALL_TEXT}", f"{CALL_TEXT}; {CALL_TEXT}; {CALL_TEXT}"):
        assert matches(grammar, llama3(), output(f"{before}{text}{after}"))
    for text in ("; ".join([CALL_TEXT] * 4), f"{CALL_TEXT}; ", f'{CALL_TEXT}; brave_search.call(query="a")'):
        assert not matches(grammar, llama3(), output(f"{before}{text}{after}"))


def test_code_may_follow_the_tag_where_the_code_interpreter_is_offered():
    dialect = Llama31Format(llama3(), builtin_tools=["code_interpreter"])
    tools = [WEATHER, ToolSpec(name="code_interpreter", description="", parameters={})]
    grammar = dialect.call_grammar(tools, ToolChoice.AUTO)
    assert matches(grammar, llama3(), output("<|python_tag|>import os\nprint({})<|eom_id|>"))
    assert matches(grammar, llama3(), output(CALL_TEXT))


def test_without_tools_there_is_nothing_to_constrain():
    assert BUILTIN.call_grammar([], ToolChoice.NONE) is None
    assert BUILTIN.call_grammar([], ToolChoice.AUTO) is None
    with pytest.raises(ConfigurationError, match="no tool is offered"):
        BUILTIN.call_grammar([], ToolChoice.REQUIRED)


def test_the_dialect_is_chosen_by_the_special_tokens():
    assert format_for(llama3()).name == "hf-3.1"
    assert format_for(llama3(), "hf-3.1", date="01 Nov 2026", tools_in="system").name == "hf-3.1"


@pytest.mark.parametrize(
    ("dialect", "options", "message"),
    [
        ("hf-31", {}, "did you mean 'hf-3.1'"),
        ("xyz", {}, "there are hf-3.1, hf-3.2, meta, template"),
        (
            "hf-3.1",
            {"tool_in": "user"},
            "no option 'tool_in'; it has date, tool_format, builtin_tools, tools_in",
        ),
        ("hf-3.2", {"builtin_tools": ["brave_search"]}, "has no built-in tools, so not brave_search"),
        ("meta", {"tools_in": "assistant"}, "tools_in must be one of system, user, got 'assistant'"),
        (
            "meta",
            {"tool_format": "xml"},
            "tool_format must be one of json, function_tag, python_list, builtin",
        ),
        ("template", {"template": "{{ messages }}", "tool_results": "x"}, "must be one of verbatim, json"),
        ("template", {}, "carries no chat template"),
    ],
)
def test_a_wrong_dialect_or_option_is_named(dialect, options, message):
    with pytest.raises(ConfigurationError, match=message):
        format_for(llama3(), dialect, **options)
