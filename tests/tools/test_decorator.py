"""What `@tool` makes of a function, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest

from agentkit.errors import ToolDefinitionError
from agentkit.tools import Approval, Effect, Tool, Trust, tool


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def test_tool_is_still_the_function():
    assert tool(double)(4) == 8


async def test_async_tool_is_still_awaitable():
    @tool
    async def triple(number: int) -> int:
        """Triple a number."""
        return 3 * number

    assert await triple(4) == 12


def test_undeclared_effect_is_the_most_cautious_and_asks_nobody_by_itself():
    made = tool(double)

    assert made.effect is Effect.EXTERNAL
    assert made.approval is None
    assert made.trust is Trust.UNTRUSTED
    assert not made.trusted


def test_options_are_kept():
    @tool(
        effect="read",
        approval="always",
        timeout=2,
        retries=3,
        trust="trusted",
        name="two-times",
        description="Twice.",
    )
    def twice(number: int) -> int:
        return 2 * number

    assert (twice.name, twice.description, twice.timeout, twice.retries) == ("two-times", "Twice.", 2, 3)
    assert twice.effect is Effect.READ
    assert twice.approval is Approval.ALWAYS
    assert twice.trusted


def test_bound_method_becomes_a_tool():
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, step: int) -> int:
            """Add to the counter."""
            self.count += step
            return self.count

    counter = Counter()
    made = tool(counter.add)

    assert list(made.spec.parameters["properties"]) == ["step"]
    assert made(step=5) == 5


def test_method_without_its_object_is_refused():
    with pytest.raises(ToolDefinitionError, match=r"argument self: .*tool\(object.method\)"):

        class Weather:
            @tool
            def look_up(self, city: str) -> str:
                """Look up."""
                return city


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"effect": "delete"}, 'effect must be one of "read", "write", "external", got \'delete\''),
        ({"approval": "sometimes"}, "approval must be one of"),
        ({"trust": True}, "trust must be one of"),
        ({"timeout": -1.0}, "timeout must be a number of seconds above 0, got -1.0"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": math.nan}, "timeout must be"),
        ({"timeout": math.inf}, "timeout must be"),
        ({"timeout": "10"}, "timeout must be"),
        ({"timeout": None}, "timeout must be"),
        ({"retries": -1, "effect": "read"}, "retries must be an integer in"),
        ({"retries": 11, "effect": "read"}, "retries must be an integer in"),
        ({"retries": 1.5, "effect": "read"}, "retries must be an integer in"),
        ({"retries": 1}, 'only effect="read" tools are retried'),
        ({"retries": 1, "effect": "write"}, "could repeat its effect"),
        ({"description": "  "}, "has no description"),
    ],
)
def test_wrong_option_is_refused_naming_the_tool(options, said):
    with pytest.raises(ToolDefinitionError, match=said) as raised:
        tool(double, **options)

    assert str(raised.value).startswith("tool double: ")


@pytest.mark.parametrize("name", ["", "get weather", "1st", "é", "a" * 65, "a.b", "a\n"])
def test_name_that_formats_cannot_write_is_refused(name):
    with pytest.raises(ToolDefinitionError, match="must be 1 to 64 letters"):
        tool(double, name=name)


def test_missing_docstring_is_refused():
    def silent(number: int) -> int:
        return number

    with pytest.raises(ToolDefinitionError, match="tool silent: has no description; write a docstring"):
        tool(silent)


def test_what_is_no_function_is_refused():
    def generate(number: int):
        """Count."""
        yield number

    wrongs: list[tuple[Any, str]] = [
        (generate, "yields values"),
        (tool(double), "is a tool already"),
        (int, "needs a function"),
        (lambda: 1, "tool name '<lambda>'"),
    ]
    for wrong, said in wrongs:
        with pytest.raises(ToolDefinitionError, match=said):
            tool(wrong)


def parameters_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_tool_can_be_made_from_a_schema_alone():
    made = Tool(
        name="look_up",
        description="Look up.",
        parameters=parameters_of({"id": {"type": "integer"}}),
        function=double,
    )

    assert made.validate({"id": "7"}) == {"id": 7}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"type": "array"}, 'of type "object"'),
        (parameters_of({"id": {"type": "int"}}), r"not a valid JSON Schema at \$.properties.id"),
        (parameters_of({"id": {"pattern": "("}}), r"not a valid JSON Schema at \$.properties.id"),
        (
            parameters_of({"id": {"$ref": "http://example.com/schema"}}),
            "refer to 'http://example.com/schema'",
        ),
        (parameters_of({"id": {"$ref": "#/$defs/Missing"}}), "refer to '#/\\$defs/Missing'"),
        (
            {
                **parameters_of({"id": {"$ref": "#/$defs/A"}}),
                "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}},
            },
            "define 'A' as itself",
        ),
        (
            {**parameters_of({"id": {"$ref": "#/$defs/A"}}), "$defs": {"A": True}},
            "refer to '#/\\$defs/A'",
        ),
    ],
)
def test_unusable_schema_is_refused(parameters, said):
    with pytest.raises(ToolDefinitionError, match=said):
        Tool(name="look_up", description="Look up.", parameters=parameters, function=double)


def test_code_argument_that_does_not_exist_is_refused():
    with pytest.raises(ToolDefinitionError, match="'script', which is not an argument"):
        Tool(
            name="look_up",
            description="Look up.",
            parameters=parameters_of({}),
            function=double,
            code_arguments={"script": "python"},
        )
