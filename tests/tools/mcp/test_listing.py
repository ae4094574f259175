"""What a server offers, in our form and as a digest; and what an application may say of a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import types

from agentkit import (
    ConfigurationError,
    InvalidArgumentsError,
    MCPHttp,
    MCPStdio,
    Tool,
    ToolDefinitionError,
)
from agentkit.tools.mcp.listing import (
    ListedTool,
    code_arguments_of,
    digest_of,
    listed_tool,
    parameters_of,
    tool_name,
)


def offered(**changes: Any) -> ListedTool:
    fields: dict[str, Any] = {
        "name": "read",
        "description": "Read a file.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    }
    return listed_tool(types.Tool(**{**fields, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "Read a file. "},
        {"title": "Read"},
        {"input_schema": {"type": "object", "properties": {"path": {"type": "string", "description": "x"}}}},
        {"output_schema": {"type": "object"}},
        {"annotations": types.ToolAnnotations(read_only_hint=True)},
    ],
    ids=str,
)
def test_whatever_a_person_may_have_relied_on_changes_the_digest(changes: dict[str, Any]):
    assert offered(**changes).digest != offered().digest


def test_a_digest_is_of_the_offer_and_not_of_its_order():
    one, other = offered(), offered(name="write")

    assert digest_of([one, other]) == digest_of([other, one])
    assert digest_of([one]) != digest_of([one, other])
    assert offered().digest == offered(_meta={"seen": 3}).digest


def test_a_name_has_its_servers_before_it_and_only_what_formats_can_write():
    assert tool_name("files", "read") == "files__read"
    assert tool_name("files", "a.b/c d") == "files__a_b_c_d"


def test_a_schema_becomes_ours():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Arguments",
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "title": "Pattern", "pattern": "^(a+)+$"},
            "where": {"$ref": "#/$defs/Place"},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "x"}},
        },
        "required": ["pattern"],
        "additionalProperties": False,
        "$defs": {
            "Place": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "patternProperties": {"^y": {}},
            }
        },
    }

    assert parameters_of(offered(input_schema=schema)) == {
        "type": "object",
        "properties": {
            "pattern": {"type": "string"},
            "where": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["pattern"],
    }
    assert "$schema" in schema  # left as it was


def test_a_schema_without_properties_has_none():
    assert parameters_of(offered(input_schema={"type": "object"})) == {"type": "object", "properties": {}}


def test_a_reference_out_of_the_schema_is_refused():
    schema = {"type": "object", "properties": {"x": {"$ref": "https://elsewhere.test/schema"}}}

    with pytest.raises(ToolDefinitionError, match=r"refers to 'https://elsewhere.test/schema'; only"):
        parameters_of(offered(input_schema=schema))


NAMES = st.sampled_from(["a", "pattern", "properties", "type", "$defs"])
SCHEMAS = st.recursive(
    st.booleans()
    | st.just({})
    | st.sampled_from(["string", "object", 3, None]).map(lambda kind: {"type": kind}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", ["string", "null"], []]),
            "properties": st.dictionaries(NAMES, inner, max_size=2) | st.just([]),
            "$defs": st.dictionaries(NAMES, inner, max_size=2) | st.just(["a"]),
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/pattern", "#", "https://elsewhere.test", 3]),
            "anyOf": st.lists(inner, max_size=2),
            "items": inner,
            "required": st.lists(NAMES, max_size=2),
            "pattern": st.just("(a+)+$"),
            "additionalProperties": inner,
            "enum": st.lists(NAMES, max_size=1),
        },
    ),
    max_leaves=6,
)


@given(schema=SCHEMAS.filter(lambda schema: isinstance(schema, dict)))
def test_any_schema_is_used_or_refused_by_name(schema: dict[str, Any]):
    try:
        parameters = parameters_of(offered(input_schema=schema))
        made = Tool(name="read", description="Read.", parameters=parameters, function=print)
    except ToolDefinitionError:
        return
    with suppress(InvalidArgumentsError):
        made.validate({"a": "x", "pattern": 1})


def test_a_text_that_is_named_code_is_judged_as_code():
    schema = {"type": "object", "properties": {"code": {"type": ["string", "null"]}}}

    assert code_arguments_of(schema) == {"code": "python"}
    assert code_arguments_of({"type": "object", "properties": {"code": {"type": "integer"}}}) == {}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MCPStdio(name="", command=["x"]), "name '' must be 1 to 24 letters and digits"),
        (lambda: MCPStdio(name="a__b", command=["x"]), "name 'a__b' must be"),
        (lambda: MCPStdio(name="a" * 25, command=["x"]), "must be 1 to 24"),
        (lambda: MCPStdio(name="a", command=[]), "command is a list of the program and its arguments"),
        (lambda: MCPStdio(name="a", command="npx server"), "command is a list"),
        (lambda: MCPStdio(name="a", command=["x"], tools="*"), "tools and reads are lists of globs"),
        (
            lambda: MCPStdio(name="a", command=["x"], timeout=0),
            "timeout must be a number of seconds above 0, got 0",
        ),
        (lambda: MCPStdio(name="a", command=["x"], connect_timeout=float("inf")), "connect_timeout must be"),
        (lambda: MCPHttp(name="a", url="ftp://x"), "url must begin with https:// or http://"),
        (lambda: MCPHttp(name="a", url="http://x.test/mcp"), "http:// is for this machine alone"),
    ],
)
def test_a_wrong_description_of_a_server_says_what_is_wrong(make: Callable[[], object], said: str):
    with pytest.raises(ConfigurationError, match=said):
        make()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.1.2.3"])
def test_this_machine_needs_no_https(host: str):
    assert MCPHttp(name="a", url=f"http://{host}:8000/mcp").name == "a"


def test_secrets_for_a_server_are_shown_nowhere():
    assert "s3cret" not in repr(MCPHttp(name="a", url="https://x.test", headers={"Authorization": "s3cret"}))
    assert "s3cret" not in repr(MCPStdio(name="a", command=["x"], env={"TOKEN": "s3cret"}))
