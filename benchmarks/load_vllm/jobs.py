"""What the load test asks of a worker and what it answers: lines of JSON on its standard input and output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A turn of a session, to be begun, or to be ended where another worker could not."""

    id: int
    session: str
    text: str

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read what `to_line` wrote."""
        return cls(**json.loads(line))

    def to_line(self) -> str:
        """Write it as a line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One generation as the agent saw it."""

    first_token: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a job: how its run ended, or the name of the error; and the generations that ended meanwhile."""

    id: int
    status: str
    error: str | None
    calls: tuple[Call, ...]

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read what `to_line` wrote."""
        said = json.loads(line)
        return cls(**{**said, "calls": tuple(Call(**call) for call in said["calls"])})

    def to_line(self) -> str:
        """Write it as a line."""
        return json.dumps(asdict(self))
