"""A message survives being written as JSON, and what is not a message is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.messages import (
    MODEL,
    USER,
    Message,
    Origin,
    Provenance,
    Role,
    ToolCall,
    message_from_json,
    message_to_json,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
TOOL_CALLS = st.builds(
    ToolCall, id=ANY_TEXT, name=ANY_TEXT, arguments=st.dictionaries(ANY_TEXT, JSON_VALUES, max_size=4)
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(Role),
    content=ANY_TEXT,
    provenance=st.builds(
        Provenance, origin=st.sampled_from(Origin), source=st.none() | ANY_TEXT, trusted=st.booleans()
    ),
    tool_calls=st.lists(TOOL_CALLS, max_size=3).map(tuple),
    call_id=st.none() | ANY_TEXT,
    tool_name=st.none() | ANY_TEXT,
)


@given(message=MESSAGES)
def test_a_message_survives_the_round_trip(message: Message):
    text = json.dumps(message_to_json(message), ensure_ascii=False)
    assert message_from_json(json.loads(text)) == message


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("role", "oracle", ValueError),
        ("provenance", None, TypeError),
        ("provenance", {"origin": "moon", "source": None, "trusted": True}, ValueError),
        ("provenance", {}, KeyError),
        ("tool_calls", None, TypeError),
        ("tool_calls", [{"id": "1"}], KeyError),
    ],
)
def test_what_is_not_a_message_is_refused(key: str, value: Any, error: type[Exception]):
    data = {**message_to_json(Message.user("hello")), key: value}
    with pytest.raises(error):
        message_from_json(data)


@pytest.mark.parametrize("key", message_to_json(Message.user("hello")))
def test_a_message_without_one_of_its_keys_is_refused(key: str):
    data = message_to_json(Message.user("hello"))
    del data[key]
    with pytest.raises(KeyError):
        message_from_json(data)


def test_a_tool_s_result_is_untrusted_unless_its_author_vouches_for_it():
    call = ToolCall(id="7", name="lookup", arguments={})
    result = Message.tool("22", call=call)
    assert result.provenance == Provenance(origin=Origin.TOOL, source="lookup", trusted=False)
    assert (result.call_id, result.tool_name) == ("7", "lookup")
    assert Message.tool("22", call=call, trusted=True).provenance.trusted is True


def test_user_and_model_speak_for_themselves():
    assert Message.user("hello").provenance == USER
    assert Message.assistant("hi").provenance == MODEL


def test_a_call_s_canonical_line_does_not_depend_on_the_order_of_its_arguments():
    one = ToolCall(id="1", name="lookup", arguments={"b": 1, "a": "é"})
    two = ToolCall(id="2", name="lookup", arguments={"a": "é", "b": 1})
    assert one.canonical() == two.canonical() == '{"arguments": {"a": "é", "b": 1}, "name": "lookup"}'
