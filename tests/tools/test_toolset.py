"""Tools by name."""

from __future__ import annotations

import pytest

from agentkit.errors import ToolDefinitionError, UnknownToolError
from agentkit.tools import Toolset, tool


@tool
def get_weather(city: str) -> str:
    """Get the weather."""
    return city


@tool
def send_mail(address: str) -> str:
    """Send a mail."""
    return address


def test_specs_keep_the_order_of_the_tools():
    toolset = Toolset([send_mail, get_weather])

    assert [spec.name for spec in toolset.specs] == ["send_mail", "get_weather"]
    assert toolset.get("get_weather") is get_weather
    assert "send_mail" in toolset
    assert len(toolset) == 2


def test_unknown_name_is_answered_with_the_nearest_and_all():
    with pytest.raises(UnknownToolError) as raised:
        Toolset([get_weather, send_mail]).get("get_wether")

    assert str(raised.value) == (
        'There is no tool named "get_wether". Did you mean get_weather? '
        "The tools are: get_weather, send_mail."
    )


def test_unknown_name_is_bounded_in_the_answer():
    many = [tool(get_weather.function, name=f"tool_{number}") for number in range(100)]

    with pytest.raises(UnknownToolError) as raised:
        Toolset(many).get("x" * 100_000)

    assert "and 80 more" in str(raised.value)
    assert len(str(raised.value)) < 500


def test_empty_toolset_says_that_nothing_can_be_called():
    with pytest.raises(UnknownToolError, match="no tools are available"):
        Toolset().get("get_weather")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            get_weather.function,
            r"get_weather is a plain function; write @tool above it, or pass tool\(get_weather\)",
        ),
        ("get_weather", "tools must be made with @tool, got str"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_tool_is_refused_with_the_fix(wrong, said):
    with pytest.raises(ToolDefinitionError, match=said):
        Toolset([wrong])


def test_name_taken_twice_is_refused():
    with pytest.raises(ToolDefinitionError, match="two tools are named get_weather; pass name="):
        Toolset([get_weather, get_weather])
