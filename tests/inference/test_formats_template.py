"""Prompts by a chat template: the embedded model's own, and templates with every habit that templates have."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError, GrammarError
from agentkit.inference.formats import format_for, tool_prompt
from agentkit.inference.formats.base import Format, ToolChoice
from agentkit.inference.formats.template import TemplateFormat
from agentkit.inference.formats.tool_prompt import EXAMPLES
from agentkit.messages import Message, ToolCall, ToolSpec
from tests.inference.conversations import (
    CALL,
    CALL_TEXT,
    WEATHER,
    contents,
    conversations,
    matches,
    smollm2,
    special_ids_in,
    spelt_ids,
)

pytestmark = pytest.mark.model

DEFAULT_SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
)
HELLO = [Message.user("Hello")]
ANSWERED = [*HELLO, Message.assistant("Hi!")]
STRIPPING = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content.strip() }} [/INST]"
    "{% else %}{{ ' ' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def smollm2_format() -> Format:
    return format_for(smollm2())


def assert_renders(dialect: Format, messages: list[Message], expected: str, **options: Any) -> None:
    ids = dialect.render(messages, **options)
    assert smollm2().decode(ids, skip_special=False) == expected
    assert ids == spelt_ids(smollm2(), expected)


def test_the_embedded_model_gets_its_own_template():
    assert smollm2_format().name == "template"
    assert_renders(
        smollm2_format(), HELLO, f"{DEFAULT_SYSTEM}<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_message_takes_the_place_of_the_default():
    messages = [Message.system(" Be brief. "), *ANSWERED]
    expected = (
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi!<|im_end|>\n"
    )
    assert_renders(smollm2_format(), messages, expected, add_generation_prompt=False)


def test_tools_calls_and_results_are_written_into_messages():
    messages = [*HELLO, Message.assistant("Let me look.", (CALL,)), Message.tool("22.0", call=CALL)]
    text = smollm2().decode(smollm2_format().render(messages, tools=[WEATHER]), skip_special=False)
    system, rest = text.split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nYou have access to the following functions.")
    assert '{"name": function name, "parameters": dictionary of argument name and its value}' in system
    assert '{"name": "get_weather", "description": "The weather in a \\"city\\"", "parameters": {' in system
    examples, hello, conversation = rest.partition("<|im_start|>user\nHello<|im_end|>\n")
    assert examples.startswith("<|im_start|>user\nGood morning!<|im_end|>\n")
    assert '{"name": "get_time", "parameters": {"location": "Rome, Italy"}}<|im_end|>\n' in examples
    assert examples.endswith("<|im_start|>assistant\nIt is 14:05 in Rome.<|im_end|>\n")
    assert hello
    assert conversation == (
        f"<|im_start|>assistant\nLet me look.\n{CALL_TEXT}<|im_end|>\n"
        "<|im_start|>tool\n22.0<|im_end|>\n<|im_start|>assistant\n"
    )


def test_instructions_come_before_the_tools():
    ids = smollm2_format().render([Message.system("Be brief."), *HELLO], tools=[WEATHER])
    text = smollm2().decode(ids, skip_special=False)
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou have access")


@given(messages=conversations(), offered=st.booleans(), template=st.sampled_from([None, STRIPPING]))
def test_turn_by_turn_is_whole_and_content_forges_nothing(messages, offered, template):
    dialect = format_for(smollm2(), "template", **({"template": template} if template else {}))
    tools = [WEATHER] if offered else []
    whole = dialect.render(messages, tools=tools)
    parts = [
        dialect.render(messages[: index + 1], tools=tools, start=index, add_generation_prompt=False)
        for index in range(len(messages))
    ]
    prompt = dialect.render(messages, tools=tools, start=len(messages))
    assert [*chain.from_iterable(parts), *prompt] == whole
    has_own_system = messages[0].role == "system"
    blocks = len(messages) + (not has_own_system and (offered or template is None))
    blocks += len(EXAMPLES) if offered else 0
    bos = ["<|im_start|>"] if template else []  # this vocabulary begins texts with it
    assert special_ids_in(smollm2(), whole) == bos + ["<|im_start|>", "<|im_end|>"] * blocks + [
        "<|im_start|>"
    ]


@given(content=contents())
def test_content_stands_in_the_prompt_as_it_is(content):
    messages = [Message.system("Be brief."), Message.user(content)]
    ids = smollm2_format().render(messages, start=1, add_generation_prompt=False)
    encode = smollm2().encode
    assert ids == [1, *encode(f"user\n{content}"), 2, *encode("\n")]


@pytest.mark.parametrize(
    ("output", "rest"),
    [
        ("Hi!<|im_end|>", "\n"),
        ("Hi!", "<|im_end|>\n"),
        ("", "<|im_end|>\n"),
        ("<|endoftext|>", "<|im_end|>\n"),
    ],
)
def test_a_turn_is_closed_as_the_template_does(output, rest):
    assert smollm2_format().close_turn(spelt_ids(smollm2(), output)) == spelt_ids(smollm2(), rest)


def test_a_generated_answer_and_its_end_are_what_the_template_renders():
    dialect = smollm2_format()
    output = spelt_ids(smollm2(), "Hi!<|im_end|>")
    continued = [*dialect.render(HELLO), *output, *dialect.close_turn(output)]
    assert continued == dialect.render(ANSWERED, add_generation_prompt=False)


def test_stop_ids_are_the_tokenizers_and_the_end_of_a_turn():
    assert smollm2_format().stop_ids == {0, 2}
    other = TemplateFormat(smollm2(), PLAIN.replace("\n{% endfor", "<file_sep>{% endfor"))
    assert other.stop_ids == {0, 2, 5}


def test_a_template_that_strips_content_is_followed():
    messages = [Message.user("  Hello \n")]
    dialect = TemplateFormat(smollm2(), STRIPPING)
    assert_renders(
        dialect, messages, "<|im_start|><|im_start|>user\nHello<|im_end|>\n", add_generation_prompt=False
    )


def test_results_become_user_messages_where_the_template_has_no_role_for_them():
    template = STRIPPING.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
    messages = [*HELLO, Message.assistant("", (CALL,)), Message.tool("22.0", call=CALL)]
    ids = TemplateFormat(smollm2(), template).render(messages, start=2, add_generation_prompt=False)
    assert ids == spelt_ids(smollm2(), "<|im_start|>user\nResult of get_weather: 22.0<|im_end|>\n")


def test_messages_that_the_template_refuses_are_a_clear_error():
    dialect = TemplateFormat(smollm2(), ALTERNATING)
    with pytest.raises(ConfigurationError, match="refuses the messages: roles must alternate"):
        dialect.render([Message.system("Be brief."), *HELLO])
    with pytest.raises(ConfigurationError, match="system message can only be the first"):
        dialect.render([*HELLO, Message.system("Late.")])


def test_a_template_without_special_tokens_is_continued_only_where_the_ids_allow_it():
    dialect = TemplateFormat(smollm2(), PLAIN)
    whole = dialect.render(ANSWERED)
    assert whole == smollm2().encode("user: Hello\nassistant: Hi!\nassistant: ")
    assert (
        dialect.render(ANSWERED[:1], add_generation_prompt=False) + dialect.render(ANSWERED, start=1) == whole
    )
    glued = TemplateFormat(smollm2(), PLAIN.replace("\n{% endfor", "{% endfor").replace("{{ m.role }}: ", ""))
    with pytest.raises(ConfigurationError, match="differently when more follow"):
        glued.render([Message.user("Hel"), Message.assistant("lo")], start=1)


def test_a_template_that_rewrites_history_is_refused():
    template = PLAIN.replace("{{ m.content }}", "{{ m.content }}{% if loop.last %} (last){% endif %}")
    with pytest.raises(ConfigurationError, match="differently when more follow"):
        TemplateFormat(smollm2(), template).render(ANSWERED, start=1)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}", "not valid Jinja"),
        ("{{ messages[0].content }}", "leaves out message 1 of role assistant"),
        ("{{ strftime_now('%Y') }}", "strftime_now"),
        ("{{ messages[9].content.x }}", "refuses the messages"),
        ("{{ messages.append(1) }}", "refuses the messages"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0].__class__.x() }}", "refuses the messages"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_once(template, message):
    with pytest.raises(ConfigurationError, match=message):
        TemplateFormat(smollm2(), template)


def test_the_date_reaches_templates_that_ask_for_it_and_no_clock_does():
    template = "{% if strftime_now is defined %}clock{% endif %}{{ date_string }}\n" + PLAIN
    dialect = TemplateFormat(smollm2(), template, date="01 Nov 2026")
    assert dialect.render(HELLO, add_generation_prompt=False) == smollm2().encode(
        "01 Nov 2026\nuser: Hello\n"
    )


def test_blocks_that_mark_training_text_and_json_filters_work():
    template = (
        PLAIN.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
        + "{{ '<é>' | tojson }}"
    )
    ids = TemplateFormat(smollm2(), template).render(HELLO, add_generation_prompt=False)
    assert ids == smollm2().encode('user: Hello"<é>"')


def output(text: str) -> list[int]:
    return [*smollm2().encode(text), 2]


@pytest.mark.parametrize("text", ["It is warm.", "", "\n\nWarm: {1}", "<b>warm</b>", CALL_TEXT])
def test_the_grammar_allows_answers_and_valid_calls(text):
    assert matches(smollm2_format().call_grammar([WEATHER], ToolChoice.AUTO), smollm2(), output(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_wether", "parameters": {}}',
        '{"name": "get_weather", "parameters": {"city": 7}}',
        '{"parameters": {"city": "Paris"}, "name": "get_weather"}',
        CALL_TEXT[:-1],
        f"{CALL_TEXT} and more",
        ' {"name": "nope"',
        f"<|python_tag|>{CALL_TEXT}",
        '[{"name": "get_weather", "parameters": {"city": 7}}]',
        '<function=get_weather>{"city": 7}</function>',
        '\x1c{"name": "get_weather", "parameters": {"city": 7}}',
    ],
)
def test_the_grammar_masks_invalid_calls(text):
    assert not matches(smollm2_format().call_grammar([WEATHER], ToolChoice.AUTO), smollm2(), output(text))


def test_a_required_call_and_a_forbidden_one():
    required = smollm2_format().call_grammar([WEATHER], ToolChoice.REQUIRED)
    assert matches(required, smollm2(), output(CALL_TEXT))
    assert not matches(required, smollm2(), output("It is warm."))
    forbidden = smollm2_format().call_grammar([WEATHER], ToolChoice.NONE)
    assert matches(forbidden, smollm2(), output("It is warm."))
    assert matches(forbidden, smollm2(), output('{"answer": 1}'))
    assert not matches(forbidden, smollm2(), output(CALL_TEXT))
    assert not matches(forbidden, smollm2(), output(f"[{CALL_TEXT}]"))
    assert not matches(forbidden, smollm2(), output('{"parameters": {}, "name": "get_weather"}'))


def test_a_tool_described_in_several_places_is_usable():
    parameters = {"allOf": [{"properties": {"city": {}}}, {"properties": {"day": {}}}], "required": ["city"]}
    tool = ToolSpec(name="get_weather", description="", parameters=parameters)
    grammar = smollm2_format().call_grammar([tool], ToolChoice.REQUIRED)
    assert matches(grammar, smollm2(), output(CALL_TEXT))
    assert not matches(grammar, smollm2(), output('{"name": "get_weather", "parameters": 7}'))
    assert not matches(grammar, smollm2(), output('{"name": "get_weather", "parameters": {}}'))


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems at properties.zone"),
        ({"type": "string", "pattern": "^P(?=a)"}, "pattern at properties.zone"),
    ],
)
def test_a_schema_that_cannot_be_constrained_is_refused_with_its_tool(argument, complaint):
    parameters = {"type": "object", "properties": {"zone": argument}}
    tool = ToolSpec(name="get_time", description="", parameters=parameters)
    with pytest.raises(GrammarError, match=f"tool get_time: .*{complaint}"):
        smollm2_format().call_grammar([WEATHER, tool], ToolChoice.AUTO)


@pytest.mark.parametrize("choice", [ToolChoice.AUTO, ToolChoice.REQUIRED])
def test_as_many_calls_as_allowed_may_stand_on_lines_of_their_own(choice):
    other = '{"name": "get_weather", "parameters": {"city": "Lyon", "days": 2}}'
    grammar = smollm2_format().call_grammar([WEATHER], choice, max_calls=2)
    for text in (CALL_TEXT, f"{CALL_TEXT}\n{other}"):
        assert matches(grammar, smollm2(), output(text))
    for text in (
        f"{CALL_TEXT}\n{other}\n{other}",
        f"{CALL_TEXT}{other}",
        f"{CALL_TEXT}\n",
        f"{CALL_TEXT}\nHi.",
    ):
        assert not matches(grammar, smollm2(), output(text))
    assert not matches(
        smollm2_format().call_grammar([WEATHER], choice), smollm2(), output(f"{CALL_TEXT}\n{other}")
    )


def test_several_calls_are_read_as_they_were_constrained():
    calls = (CALL, ToolCall(id="call_2", name="get_weather", arguments={"city": "Lyon"}))
    text = tool_prompt.assistant_text(Message.assistant("", calls), "json")
    grammar = smollm2_format().call_grammar([WEATHER], ToolChoice.REQUIRED, max_calls=2)
    assert matches(grammar, smollm2(), output(text))
    parser = smollm2_format().parser([WEATHER])
    parser.feed(text)
    _, parsed = parser.finish()
    assert [call.arguments for call in parsed.calls] == [call.arguments for call in calls]


def test_an_answer_can_be_bound_to_a_schema_beside_calls():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = '{"name": "get_weather", "age": 3}'
    with_tools = smollm2_format().call_grammar([WEATHER], ToolChoice.AUTO, answer_schema=schema)
    assert matches(with_tools, smollm2(), output(answer))
    assert matches(with_tools, smollm2(), output(CALL_TEXT))
    assert not matches(with_tools, smollm2(), output("It is warm."))
    alone = smollm2_format().call_grammar([], ToolChoice.NONE, answer_schema=schema)
    assert matches(alone, smollm2(), output(answer))
    assert not matches(alone, smollm2(), output(CALL_TEXT))


def test_several_tools_and_schemas_with_references_are_constrained():
    trip = ToolSpec(
        name="get_trip",
        description='A trip } " {',
        parameters={
            "type": "object",
            "properties": {
                "to": {"$ref": "#/$defs/Place"},
                "via": {"type": "array", "items": {"$ref": "#/$defs/Place"}},
            },
            "required": ["to"],
            "additionalProperties": False,
            "$defs": {"Place": {"type": "string", "enum": ["Paris", "Lyon"]}},
        },
    )
    grammar = smollm2_format().call_grammar([WEATHER, trip], ToolChoice.AUTO)
    for text in ('{"name": "get_trip", "parameters": {"to": "Lyon", "via": ["Paris"]}}', CALL_TEXT):
        assert matches(grammar, smollm2(), output(text))
    assert not matches(grammar, smollm2(), output('{"name": "get_trip", "parameters": {"to": "Rome"}}'))
    assert not matches(grammar, smollm2(), output('{"name": "get_trip", "parameters": {"city": "Paris"}}'))


def test_formats_load_no_tensors():
    code = "import sys, agentkit.inference.formats as f; f.format_for; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
