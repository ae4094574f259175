"""`agentkit prompt` and `agentkit parse` on real tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.driving import Cli
from tests.inference.conversations import spelt_ids
from tests.inference.known_tokenizers import llama3, package_folder, smollm2

TOOLS = [{"name": "f", "description": "Do it.", "parameters": {"type": "object", "properties": {}}}]


@pytest.mark.model
def test_prompt_gives_the_text_and_the_ids_of_the_embedded_model(cli: Cli) -> None:
    outcome = cli("prompt", "question.json")
    assert outcome.code == 0
    assert list(outcome.json) == ["dialect", "text", "ids"]
    assert outcome.json["dialect"] == "template"
    assert outcome.json["text"].endswith(
        "<|im_start|>user\nHow warm is Paris?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert smollm2().decode(outcome.json["ids"], skip_special=False) == outcome.json["text"]


@pytest.mark.model
def test_builtin_tools_are_for_the_dialect_that_takes_them(cli: Cli) -> None:
    outcome = cli("prompt", "question.json", "--builtin-tools", "brave_search")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        "agentkit: --builtin-tools is for the dialects hf-3.1 and meta; "
        "the dialect of smollm2-135m-instruct is template\n"
    )


def test_prompt_in_llama_3_1_takes_a_date_and_builtin_tools(cli: Cli) -> None:
    model = str(package_folder("llama_models") / "llama3")
    outcome = cli(
        "prompt",
        "question.json",
        "-m",
        model,
        "--date",
        "01 Jan 2030",
        "--builtin-tools",
        "brave_search, wolfram_alpha",
    )
    assert (outcome.code, outcome.json["dialect"]) == (0, "hf-3.1")
    assert "Tools: brave_search, wolfram_alpha\n" in outcome.json["text"]
    assert "Today Date: 01 Jan 2030\n" in outcome.json["text"]
    assert llama3().decode(outcome.json["ids"], skip_special=False) == outcome.json["text"]


def test_prompt_reads_calls_and_results_in_the_common_form(cli: Cli, folder: Path) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "é"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "12"},
    ]
    (folder / "tools.json").write_text(json.dumps([{"type": "function", "function": TOOLS[0]}]))
    model = str(package_folder("llama_models") / "llama3")
    outcome = cli("prompt", "-", "-m", model, "--tools", "tools.json", stdin=json.dumps(messages))
    text = outcome.json["text"]
    assert '{"name": "f", "parameters": {"x": 1}}<|eot_id|>' in text
    assert "<|start_header_id|>ipython<|end_header_id|>\n\n" in text
    assert '"description": "Do it."' in text


def test_prompt_reads_content_in_parts(cli: Cli) -> None:
    parts = [{"type": "text", "text": "How warm "}, {"type": "text", "text": "is it?"}]
    messages = json.dumps([{"role": "user", "content": parts}])
    assert "How warm is it?<|eot_id|>" in cli("prompt", "-", "-d", "meta", stdin=messages).json["text"]
    other = json.dumps([{"role": "user", "content": [{"type": "image"}]}])
    assert cli("prompt", "-", "-d", "meta", stdin=other).code == 2


def test_parse_reads_a_call(cli: Cli) -> None:
    outcome = cli("parse", stdin='<|python_tag|>brave_search.call(query="x")<|eom_id|>\n')
    assert (outcome.code, outcome.json) == (
        0,
        {
            "content": "",
            "calls": [{"name": "brave_search", "arguments": {"query": "x"}, "form": "builtin"}],
            "errors": [],
        },
    )


def test_parse_exits_1_at_a_call_that_cannot_be_read(cli: Cli) -> None:
    outcome = cli("parse", stdin='{"name": "f", "parameters": {"a": ')
    assert (outcome.code, outcome.json["calls"]) == (1, [])
    assert [list(error) for error in outcome.json["errors"]] == [["kind", "message", "hint"]]
    assert outcome.json["errors"][0]["kind"] == "truncated"


def test_parse_knows_the_tools_it_is_given(cli: Cli, folder: Path) -> None:
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    known = cli("parse", "--tools", "tools.json", stdin='{"name": "f", "parameters": {}}')
    unknown = cli("parse", "--tools", "tools.json", stdin='{"name": "g", "parameters": {}}')
    assert (known.code, [call["name"] for call in known.json["calls"]]) == (0, ["f"])
    assert (unknown.code, unknown.json["errors"][0]["kind"]) == (1, "unknown_tool")


def test_parse_of_text_is_that_text(cli: Cli) -> None:
    outcome = cli("parse", stdin="22 °C in Paris.")
    assert (outcome.code, outcome.json) == (0, {"content": "22 °C in Paris.", "calls": [], "errors": []})


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def weather(folder: Path) -> str:
    (folder / "weather.json").write_text(json.dumps([WEATHER]))
    return "weather.json"


@pytest.mark.parametrize(
    ("dialect", "tool_format", "asked"),
    [
        ("hf-3.1", "json", 'Respond in the format {"name": function name, "parameters": '),
        ("hf-3.2", "python_list", 'Respond in the format [function_name(argument_name="value")]'),
        ("meta", "json", "Return function calls in JSON format."),
        ("meta", "function_tag", "ONLY reply in the following format"),
        ("meta", "builtin", 'in the format function_name.call(argument_name="value").'),
    ],
)
def test_a_llama_dialect_needs_no_checkpoint(
    cli: Cli, weather: str, dialect: str, tool_format: str, asked: str
) -> None:
    outcome = cli(
        *f"prompt question.json --dialect {dialect} --tool-format {tool_format} --tools {weather}".split()
    )
    assert (outcome.code, outcome.json["dialect"]) == (0, dialect)
    assert asked in outcome.json["text"]
    assert outcome.json["ids"] == _llama3_ids(outcome.json["text"])


def _llama3_ids(text: str) -> list[int]:
    return spelt_ids(llama3(), text)


def test_prompt_takes_the_place_of_tools_and_the_style_of_results(
    cli: Cli, folder: Path, weather: str
) -> None:
    messages = [{"role": "user", "content": "?"}, {"role": "tool", "content": 'say "hi"'}]
    (folder / "messages.json").write_text(json.dumps(messages))
    options = [
        "--dialect",
        "hf-3.1",
        "--tools",
        weather,
        "--tools-in",
        "system",
        "--tool-results",
        "verbatim",
    ]
    text = cli("prompt", "messages.json", *options).json["text"]
    assert "You have access to the following functions." in text
    assert 'ipython<|end_header_id|>\n\nsay "hi"<|eot_id|>' in text


def test_parse_checks_arguments_against_the_schemas(cli: Cli, weather: str) -> None:
    right = '{"name": "get_weather", "parameters": {"city": "Paris", "days": 12345678901234567890}}'
    wrong = '{"name": "get_weather", "parameters": {"days": "many"}}'
    outcome = cli("parse", "--tools", weather, stdin=f"{right}; {wrong}")
    assert (outcome.code, len(outcome.json["calls"])) == (1, 1)
    assert outcome.json["calls"][0]["arguments"]["days"] == 12345678901234567890
    assert [error["kind"] for error in outcome.json["errors"]] == ["invalid_arguments"]
    assert "missing argument city" in outcome.json["errors"][0]["message"]


def test_parse_leaves_arguments_unchecked_that_no_schema_describes(cli: Cli, folder: Path) -> None:
    (folder / "tools.json").write_text(json.dumps([{"name": "f", "parameters": {"type": "dict"}}]))
    outcome = cli("parse", "--tools", "tools.json", stdin='{"name": "f", "parameters": {"a": 1}}')
    assert (outcome.code, outcome.json["calls"][0]["arguments"]) == (0, {"a": 1})
    assert "the parameters of tool f are no JSON Schema" in outcome.err


def test_code_is_a_call_only_where_the_code_interpreter_is_offered(cli: Cli, weather: str) -> None:
    raw = "<|python_tag|>print('hi')<|eom_id|>"
    offered = cli("parse", "--builtin-tools", "brave_search, code_interpreter", stdin=raw)
    assert (offered.code, offered.json["calls"]) == (
        0,
        [{"name": "code_interpreter", "arguments": {"code": "print('hi')"}, "form": "code"}],
    )
    for options in ([], ["--tools", weather], ["--builtin-tools", "brave_search"]):
        refused = cli("parse", *options, stdin=raw)
        assert (refused.code, refused.json["calls"]) == (1, [])
        assert refused.json["errors"][0]["kind"] == "unknown_tool"


def test_hints_ask_for_the_tool_format(cli: Cli, weather: str) -> None:
    options = ["parse", "--dialect", "meta", "--tool-format", "function_tag", "--date", "1", "--tools"]
    outcome = cli(*options, weather, stdin="{'name': 'get_weather', 'parameters': {}}")
    assert outcome.json["errors"][0]["kind"] == "malformed_json"
    assert "<function=function name>" in outcome.json["errors"][0]["hint"]


@pytest.mark.parametrize("text", ["", "\n", "[]", "null", '{"a": 1}'])
def test_what_calls_nothing_is_content(cli: Cli, weather: str, text: str) -> None:
    outcome = cli("parse", "--tools", weather, stdin=text)
    assert (outcome.code, outcome.json) == (0, {"content": text, "calls": [], "errors": []})
