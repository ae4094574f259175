"""What the model is told about a function, from its types and docstring."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, MinLen, MultipleOf
from pydantic import BaseModel, Field

from agentkit.errors import ToolDefinitionError
from agentkit.tools import Code, tool


class Unit(Enum):
    """How to measure."""

    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


@dataclass
class Point:
    """A place on a map."""

    x: int
    y: int = 0


class Street(BaseModel):
    title: str
    number: Annotated[int, Field(ge=1)]


class Node(BaseModel):
    value: int
    children: list["Node"] = []


def parameter(hint: Any, default: Any = ...) -> dict[str, Any]:
    """Return the schema of one argument of the given type."""

    def probe(value=default if default is not ... else None): ...

    probe.__annotations__["value"] = hint
    probe.__defaults__ = None if default is ... else (default,)
    made = tool(probe, description="Probe.")
    schema = dict(made.spec.parameters)
    return {**schema["properties"]["value"], **({"$defs": schema["$defs"]} if "$defs" in schema else {})}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Optional[int], {"type": ["integer", "null"]}),  # noqa: UP045  # the old spelling is what is tested
        (int | str, {"type": ["integer", "string"]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Unit, {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "How to measure."}),
        (Annotated[int, Ge(1)], {"type": "integer", "minimum": 1}),
        (Annotated[int, Ge(1), Le(9)], {"type": "integer", "maximum": 9, "minimum": 1}),
        (Annotated[float, Interval(gt=0, lt=1)],
         {"type": "number", "exclusiveMaximum": 1, "exclusiveMinimum": 0}),
        (Annotated[int, MultipleOf(5)], {"type": "integer", "multipleOf": 5}),
        (Annotated[str, Len(1, 3)], {"type": "string", "minLength": 1, "maxLength": 3}),
        (Annotated[list[Annotated[int, Gt(0)]], MinLen(1), Field(max_length=2)],
         {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}, "minItems": 1, "maxItems": 2}),
        (Annotated[str, Field(pattern="^a+$")], {"type": "string", "pattern": "^a+$"}),
        (Optional[Literal["a", "b"]],  # noqa: UP045  # as above
         {"anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Point | None, {"anyOf": [
            {"type": "object",
             "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
             "required": ["x"], "description": "A place on a map."}, {"type": "null"}]}),
        (list, {"type": "array", "items": {}}),
        (dict, {"type": "object", "additionalProperties": True}),
        (tuple[int, str], {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}],
                           "minItems": 2, "maxItems": 2}),
        (Annotated[str, Field(max_length=3, description="Short.")],
         {"type": "string", "maxLength": 3, "description": "Short."}),
        (Point, {"type": "object",
                 "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
                 "required": ["x"], "description": "A place on a map."}),
        (list[Street], {"type": "array", "items": {
            "type": "object",
            "properties": {"title": {"type": "string"}, "number": {"type": "integer", "minimum": 1}},
            "required": ["title", "number"]}}),
        (Any, {}),
    ],
    ids=str,
)  # fmt: skip
def test_type_becomes_short_schema(hint, schema):
    assert parameter(hint) == schema


def test_argument_keeps_the_name_of_a_keyword():
    def probe(title: str, properties: str, schema: str, model_config: str) -> None: ...

    made = tool(probe, description="Probe.")

    assert list(made.spec.parameters["properties"]) == ["title", "properties", "schema", "model_config"]
    assert made.validate(dict.fromkeys(made.spec.parameters["required"], "x"))["title"] == "x"


def test_recursive_model_keeps_its_definition():
    schema = parameter(Node)

    assert schema["$ref"] == "#/$defs/Node"
    assert schema["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


@pytest.mark.parametrize(
    ("hint", "default", "shown"),
    [
        (int, 3, 3),
        (Unit, Unit.CELSIUS, "celsius"),
        (Point, Point(1), {"x": 1, "y": 0}),
        (list[str], ["a"], ["a"]),
    ],
)
def test_default_is_shown_and_makes_the_argument_optional(hint, default, shown):
    def probe(value=default): ...

    probe.__annotations__["value"] = hint
    made = tool(probe, description="Probe.")

    assert made.spec.parameters["properties"]["value"]["default"] == shown
    assert "required" not in made.spec.parameters


@pytest.mark.parametrize("default", [None, object()])
def test_default_without_a_form_is_not_shown(default):
    assert "default" not in parameter(Any, default)


def test_marked_argument_is_code():
    def run(script: Annotated[str, Code("python")], query: Annotated[str | None, Code("sql")] = None) -> None:
        """Run."""

    made = tool(run)

    assert made.code_arguments == {"script": "python", "query": "sql"}
    assert made.spec.parameters["properties"]["script"] == {
        "type": "string",
        "contentMediaType": "text/x-python",
    }


def test_mark_inside_an_optional_is_found():
    def run(script: Annotated[str, Code("bash")] | None = None) -> None:
        """Run."""

    assert tool(run).code_arguments == {"script": "bash"}


def test_text_argument_named_code_is_python():
    def run(code: str) -> None:
        """Run."""

    def refund(code: int) -> None:
        """Refund."""

    assert tool(run).code_arguments == {"code": "python"}
    assert tool(refund).code_arguments == {}


@pytest.mark.parametrize("hint", [list[Annotated[str, Code("python")]], Annotated[int, Code("python")]])
def test_mark_on_anything_but_a_whole_text_is_refused(hint):
    with pytest.raises(ToolDefinitionError, match="argument value: Code marks one whole text"):
        parameter(hint)


def untyped(city):
    """X."""


def positional(city: str, /) -> None:
    """X."""


def values(*cities: str) -> None:
    """X."""


def options(**cities: str) -> None:
    """X."""


def unresolved(city: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    """X."""


def called(city: Callable[[], int]) -> None:
    """X."""


def foreign(city: pytest.Config) -> None:
    """X."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (untyped, "has no type; annotate it, for instance city: str"),
        (positional, "is positional-only"),
        (values, "use one argument of type list"),
        (options, "name the arguments"),
        (unresolved, "cannot be resolved"),
        (called, "has no JSON form"),
        (foreign, "type Config has no JSON form"),
    ],
)
def test_argument_that_cannot_be_described_is_refused_in_one_line(function, said):
    with pytest.raises(ToolDefinitionError, match=said) as raised:
        tool(function)

    message = str(raised.value)
    assert message.startswith(f"tool {function.__name__}, argument cit")
    assert "\n" not in message


def test_unresolvable_return_type_does_not_matter():
    def save(path: Path) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        """Save."""

    assert tool(save).validate({"path": "a/b"}) == {"path": Path("a/b")}
