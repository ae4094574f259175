"""What a docstring tells the model about a tool: the model card's example, the three styles, and choices."""

from __future__ import annotations

import json

import pytest

from agentkit.errors import ToolDefinitionError
from agentkit.tools import tool


# As the model card of Llama 3.1 has it, to the letter.
def get_current_temperature(location: str) -> float:
    """
    Get the current temperature at a location.

    Args:
        location: The location to get the temperature for, in the format "City, Country"
    Returns:
        The current temperature at the specified location in the specified units, as a float.
    """
    return 22.  # A real function should probably actually get the temperature!  # fmt: skip


def test_model_cards_example_gives_exactly_its_schema():
    spec = tool(get_current_temperature).spec

    assert spec.name == "get_current_temperature"
    assert spec.description == "Get the current temperature at a location."
    assert json.dumps(spec.parameters) == json.dumps(
        {
            "type": "object",
            "properties": {
                "location": {
                    "type": "string",
                    "description": 'The location to get the temperature for, in the format "City, Country"',
                }
            },
            "required": ["location"],
        }
    )


def convert(
    amount: float, source: str, digits: int, exact: bool, tags: list[str], rates: dict[str, float]
) -> str:
    """Convert an amount.

    It takes
    two lines to say so.

    Args:
        amount: How much,
            as a number.
        source: The currency.
        digits: Digits after the point.
        exact: Whether to round.
        tags: Labels.
        rates: Rates by currency.
    """
    return ""


def get_in_unit(location: str, unit: str) -> float:
    """Get the current temperature at a location.

    Args:
        location: The location to get the temperature for, in the format "City, Country"
        unit: The unit to return the temperature in. (choices: ["celsius", "fahrenheit"])
    """
    return 22.0


def no_arguments() -> str:
    """Tell the time."""
    return ""


@pytest.mark.parametrize("function", [get_current_temperature, get_in_unit, convert, no_arguments])
def test_schema_equals_that_of_transformers(function):
    from transformers.utils.chat_template_utils import get_json_schema

    theirs = get_json_schema(function)["function"]
    ours = tool(function).spec

    assert ours.name == theirs["name"]
    assert ours.description == theirs["description"]
    assert json.dumps(ours.parameters) == json.dumps(theirs["parameters"])


def google(city: str, nights: int = 1) -> None:
    """Book a room.

    It is kept for a day.

    Args:
        city (str): The city, in the format
            "City, Country".
        nights (int, optional): How many: at most 30.

    Returns:
        None: nothing.

    Raises:
        ValueError: never.
    """


def numpy(city: str, nights: int = 1) -> None:
    """Book a room.

    It is kept for a day.

    Parameters
    ----------
    city : str
        The city, in the format
        "City, Country".
    nights : int, optional
        How many: at most 30.

    Returns
    -------
    None
        nothing.
    """


def rest(city: str, nights: int = 1) -> None:
    """Book a room.

    It is kept for a day.

    :param city: The city, in the format
        "City, Country".
    :type city: str
    :param int nights: How many: at most 30.
    :returns: nothing.
    :raises ValueError: never.
    """


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_docstring_of_every_style_describes_tool_and_arguments(function):
    spec = tool(function).spec

    assert spec.description == "Book a room.\n\nIt is kept for a day."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": 'The city, in the format "City, Country".'},
            "nights": {"type": "integer", "description": "How many: at most 30.", "default": 1},
        },
        "required": ["city"],
    }


def test_choices_that_are_no_list_of_texts_are_refused():
    def measure(unit: str) -> None:
        """Measure.

        Args:
            unit: The unit. (choices: celsius, fahrenheit)
        """

    with pytest.raises(ToolDefinitionError, match=r'argument unit: .* write \(choices: \["a", "b"\]\)'):
        tool(measure)


def test_choices_of_what_is_no_text_are_words_of_the_description():
    def measure(digits: int) -> None:
        """Measure.

        Args:
            digits: How many. (choices: [1, 2])
        """

    assert tool(measure).spec.parameters["properties"]["digits"] == {
        "type": "integer",
        "description": "How many. (choices: [1, 2])",
    }
