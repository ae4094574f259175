"""`agentkit prompt` and `agentkit parse` on real tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.driving import Cli
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
