"""What of Llama Guard's categories a policy chooses, and the ones it adds. Knows no prompt and no model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Category: TypeAlias = Literal[
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13", "S14"
]
Threshold: TypeAlias = Annotated[float, Field(gt=0.0, lt=1.0)]

CATEGORIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "S1": "Violent Crimes",
        "S2": "Non-Violent Crimes",
        "S3": "Sex Crimes",
        "S4": "Child Exploitation",
        "S5": "Defamation",
        "S6": "Specialized Advice",
        "S7": "Privacy",
        "S8": "Intellectual Property",
        "S9": "Indiscriminate Weapons",
        "S10": "Hate",
        "S11": "Self-Harm",
        "S12": "Sexual Content",
        "S13": "Elections",
        "S14": "Code Interpreter Abuse",
    }
)
_FRAME_CHARACTERS: Final = re.compile(r"[<>|]")


class CategoryChoice(BaseModel):
    """Which categories are judged: only those included, or all but those excluded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: tuple[Category, ...] | None = Field(default=None, min_length=1)
    exclude: tuple[Category, ...] | None = None

    @model_validator(mode="after")
    def _names_one_list(self) -> Self:
        if (self.include is None) == (self.exclude is None):
            raise ValueError("name either `include` or `exclude`")
        return self

    def apply(self, offered: Sequence[str]) -> tuple[str, ...]:
        """Return the chosen ones of the categories that a model offers, in its order."""
        if self.include is not None:
            return tuple(code for code in offered if code in self.include)
        return tuple(code for code in offered if code not in (self.exclude or ()))


class CustomCategory(BaseModel):
    """A category of the policy's own, which Llama Guard judges from its description alone.

    The threshold is on the probability of `unsafe`; None takes the shield's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1, max_length=2000)
    threshold: Threshold | None = None

    @field_validator("name", "description")
    @classmethod
    def _spells_no_frame(cls, value: str) -> str:
        if _FRAME_CHARACTERS.search(value):
            raise ValueError("leave out the characters < > |, which Llama Guard's prompt is framed with")
        return value

    @field_validator("name")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if len(value.split("\n")) > 1 or not value.strip():
            raise ValueError("the name of a category is one line of words")
        return value.strip().rstrip(".")

    @property
    def listed(self) -> str:
        """The category as the prompt lists it."""
        return f"S1: {self.name}.\n{self.description.strip()}"
