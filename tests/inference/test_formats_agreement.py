"""Prompts byte for byte as others write them: the models' own chat templates, recorded, and llama-models' encoder."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import Format
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message, ToolCall, ToolSpec
from tests.inference.conversations import contents, llama3, llama3_tokenizer_file, spelt_ids

CASES = [
    json.loads(line) for line in (Path(__file__).parent / "template_prompts.jsonl").read_text().splitlines()
]


def message_of(item: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(id="call", name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in item.get("tool_calls", ())
    )
    match item["role"]:
        case "system":
            return Message.system(item["content"])
        case "user":
            return Message.user(item["content"])
        case "assistant":
            return Message.assistant(item["content"], calls)
        case _:
            return Message.tool(item["content"], call=ToolCall(id="call", name="tool", arguments={}))


def spec_of(tool: dict[str, Any]) -> ToolSpec:
    return ToolSpec(**tool["function"])


def format_of(case: dict[str, Any]) -> Format:
    builtin = {"builtin_tools": case["builtin_tools"]} if case["builtin_tools"] else {}
    return format_for(llama3(), case["dialect"], date=case["date"], tools_in=case["tools_in"], **builtin)


def rendered(case: dict[str, Any]) -> list[int]:
    return format_of(case).render(
        [message_of(item) for item in case["messages"]],
        tools=[spec_of(tool) for tool in case["tools"]],
        add_generation_prompt=case["add_generation_prompt"],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["dialect"])
def test_a_prompt_is_what_the_models_own_template_writes(case):
    ids = rendered(case)
    assert llama3().decode(ids, skip_special=False) == case["text"]
    hostile = any(name in json.dumps(case["messages"]) for name in ("<|eot_id|>", "<|python_tag|>print"))
    if not hostile and not any("<|" in json.dumps(tool) for tool in case["tools"]):
        assert ids == spelt_ids(llama3(), case["text"])


# Meta's own encoder, and its documents.

TRENDING = ToolSpec(
    name="trending_songs",
    description="Returns the trending songs on a Music site",
    parameters={
        "type": "object",
        "properties": [
            {"n": {"type": "object", "description": "The number of songs to return"}},
            {"genre": {"type": "object", "description": "The genre of the songs to return"}},
        ],
        "required": ["n"],
    },
)
TRENDING_TAGGED = ToolSpec(
    name="trending_songs",
    description="Returns the trending songs on a Music site",
    parameters={
        "genre": {"description": "The genre of the songs to return", "param_type": "str", "required": False},
        "n": {"description": "The number of songs to return", "param_type": "int", "required": True},
    },
)
GET_WEATHER = ToolSpec(
    name="get_weather",
    description="Get weather info for places",
    parameters={
        "type": "dict",
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "The name of the city to get the weather for"},
            "metric": {
                "type": "string",
                "description": "The metric for weather. Options are: celsius, fahrenheit",
                "default": "celsius",
            },
        },
    },
)
GET_USER = ToolSpec(
    name="get_user_info",
    description="Retrieve details for a specific user by their unique identifier. "
    "Note that the provided function is in Python 3 syntax.",
    parameters={
        "type": "dict",
        "required": ["user_id"],
        "properties": {
            "user_id": {
                "type": "integer",
                "description": "The unique identifier of the user. It is used to fetch the specific user details "
                "from the database.",
            },
            "special": {
                "type": "string",
                "description": "Any special information or parameters that need to be considered while fetching "
                "user details.",
                "default": "none",
            },
        },
    },
)
PI = ToolCall(id="1", name="wolfram_alpha", arguments={"query": "100th decimal of pi"})
SEARCHING = ["brave_search", "wolfram_alpha"]
CONCISE = Message.system("You are a helpful assistant.\n")
SONGS = Message.user("Use tools to get latest trending songs")


@cache
def documented(name: str) -> list[str]:
    """Return the input prompts of one of llama-models' documents, in their order."""
    text = (llama3_tokenizer_file().parents[1] / name).read_text()
    return re.findall(r"##### Input Prompt Format\n```\n(.*?)\n?\n```", text, flags=re.DOTALL)


def result_in(prompt: str) -> str:
    return prompt.split("ipython<|end_header_id|>\n\n")[1].split("<|eot_id|>")[0]


LLAMA31, LLAMA32 = "llama3_1/prompt_format.md", "llama3_2/text_prompt_format.md"


@pytest.mark.parametrize(
    ("document", "index", "messages", "tools", "options"),
    [
        (
            LLAMA31,
            1,
            [
                Message.system("You are a helpful assistant"),
                Message.user("Answer who are you in the form of jeopardy?"),
            ],
            [],
            {},
        ),
        (
            LLAMA31,
            2,
            [CONCISE, Message.user("Search the web for the latest price of 1oz gold?")],
            [],
            {"date": "21 September 2024", "builtin_tools": SEARCHING},
        ),
        (
            LLAMA31,
            3,
            [
                Message.user(
                    "Write code to check if number is prime, use that to see if the number 7 is prime"
                )
            ],
            [],
            {"builtin_tools": ["code_interpreter"]},
        ),
        (
            LLAMA31,
            4,
            [
                Message.user("What is the 100th decimal of pi?"),
                Message.assistant("", (PI,)),
                Message.tool(result_in(documented(LLAMA31)[4]), call=PI),
            ],
            [],
            {"builtin_tools": SEARCHING},
        ),
        (LLAMA31, 5, [CONCISE, SONGS], [TRENDING], {"date": "21 September 2024"}),
        (
            LLAMA31,
            6,
            [CONCISE, SONGS],
            [TRENDING_TAGGED],
            {"date": "21 September 2024", "tool_format": "function_tag"},
        ),
        (
            LLAMA32,
            1,
            [Message.user("What is the weather in SF and Seattle?")],
            [GET_WEATHER],
            {"tool_format": "python_list"},
        ),
        (
            LLAMA32,
            3,
            [Message.user("Write code to check if number is prime. Use it to verify if number 7 is prime")],
            [],
            {"date": "24 September 2024", "builtin_tools": ["code_interpreter"]},
        ),
    ],
)
def test_a_prompt_is_what_meta_documents(document, index, messages, tools, options):
    ids = format_for(llama3(), "meta", **options).render(messages, tools=tools)
    text = llama3().decode(ids, skip_special=False)
    assert text.rstrip("\n") == documented(document)[index].rstrip("\n")
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_a_question_with_its_tools_is_what_meta_documents_but_for_the_indentation():
    question = (
        "Can you retrieve the details for the user with the ID 7890, who has black as their special request?"
    )
    dialect = format_for(llama3(), "meta", tool_format="python_list", tools_in="user")
    text = llama3().decode(dialect.render([Message.user(question)], tools=[GET_USER]), skip_special=False)
    assert text.split() == documented(LLAMA32)[2].split()


@cache
def chat_format() -> Any:
    chat, tokenizer = (
        importlib.import_module(f"llama_models.llama3.{name}") for name in ("chat_format", "tokenizer")
    )
    return chat.ChatFormat(tokenizer.Tokenizer(llama3_tokenizer_file()))


def encoded_by_meta(messages: Sequence[Message], tool_format: str) -> list[int]:
    types = importlib.import_module("llama_models.datatypes")
    raw = []
    for message in messages:
        calls = [
            types.ToolCall(call_id=call.id, tool_name=call.name, arguments=dict(call.arguments))
            for call in message.tool_calls
        ]
        continues = bool(calls) and tool_format == "json"
        reason = types.StopReason.end_of_message if continues else types.StopReason.end_of_turn
        raw.append(
            types.RawMessage(
                role=message.role.value, content=message.content, tool_calls=calls, stop_reason=reason
            )
        )
    prompt = chat_format().encode_dialog_prompt(raw, types.ToolPromptFormat(tool_format))
    return list(prompt.tokens)


def flat_values(tool_format: str) -> st.SearchStrategy[Any]:
    texts = {
        "json": st.text(max_size=8),
        "function_tag": st.text(alphabet=st.characters(max_codepoint=126), max_size=8),  # the rest it escapes
        "python_list": st.text(alphabet="abcé 🦙.,!", max_size=8),  # it escapes nothing
    }
    plain = texts[tool_format] | st.integers(-(10**6), 10**6) | st.booleans() | st.none()
    return plain | st.lists(plain, max_size=3)


@settings(deadline=None)  # the first example loads the encoder
@given(data=st.data(), tool_format=st.sampled_from(["json", "function_tag", "python_list"]))
def test_ids_are_those_of_metas_own_encoder(data, tool_format):
    messages = [Message.system(data.draw(contents()))] if data.draw(st.booleans()) else []
    messages.append(Message.user(data.draw(contents())))
    arguments = data.draw(
        st.dictionaries(st.sampled_from(["a", "b", "city"]), flat_values(tool_format), max_size=3)
    )
    call = ToolCall(id="call", name="get_weather", arguments=arguments)
    messages += [
        Message.assistant(data.draw(contents())),
        Message.user("?"),
        Message.assistant("", (call,)),
        Message.tool(data.draw(contents()), call=call),
    ]
    dialect = format_for(llama3(), "meta", tool_format=tool_format)
    ids = dialect.render(messages)
    tag = llama3().special_ids["<|python_tag|>"]
    assert [token_id for token_id in ids if token_id != tag] == encoded_by_meta(messages, tool_format)
    assert ids.count(tag) == (tool_format == "json")


def test_code_is_encoded_as_meta_does():
    call = ToolCall(id="call", name="code_interpreter", arguments={"code": "print('é')\n\n"})
    messages = [Message.user("Hi"), Message.assistant("", (call,)), Message.tool("completed", call=call)]
    dialect = format_for(llama3(), "meta", builtin_tools=["code_interpreter"])
    eom, eot = (llama3().special_ids[name] for name in ("<|eom_id|>", "<|eot_id|>"))
    ids = dialect.render(messages, start=1)
    whole = encoded_by_meta(messages, "function_tag")
    assert [eot if token_id == eom else token_id for token_id in ids] == whole[len(whole) - len(ids) :]
    assert ids.count(eom) == 1


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        (None, "hf-3.1"),
        ("{% if builtin_tools is defined %}{{ bos_token }}{% endif %}", "hf-3.1"),
        ("{{ strftime_now('%d %b %Y') }}{{ builtin_tools }}", "hf-3.1"),
        ("{{ strftime_now('%d %b %Y') }}", "hf-3.2"),
    ],
    ids=["none", "as in 3.1", "of both kinds", "as in 3.2"],
)
def test_a_models_own_template_says_which_of_llamas_dialects_it_speaks(template: str | None, dialect: str):
    tokenizer = Tokenizer(replace(llama3()._parts, chat_template=template))
    assert format_for(tokenizer).name == dialect
