"""What one run may set for itself, and the error for what it may not."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

from pydantic import BaseModel

from agentkit.agent.limits import Limits
from agentkit.errors import ConfigurationError
from agentkit.nearest import nearest

_Choice = Literal["auto", "required", "none"]


class RunOptions(TypedDict, total=False):
    """What one run may set for itself.

    `limits` replace the agent's. With `output_type` the answer is held to its schema while it is sampled, and
    `result.output` is an instance of it. `tool_choice` lets the model decide (`auto`), makes its first step a
    call (`required`) or allows none (`none`). What a user says with `pinned` stays in the context when older
    turns have to leave it.
    """

    limits: Limits | None
    output_type: type[BaseModel] | None
    tool_choice: _Choice
    pinned: bool


def check_options(options: RunOptions) -> RunOptions:
    """Return the options.

    Raises:
        ConfigurationError: if there is no such option, or no such choice.
    """
    known = list(RunOptions.__annotations__)
    for name in options:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(known)}"
            raise ConfigurationError(f"a run has no option {name!r}{hint}")
    output_type: object = options.get("output_type")
    is_model = isinstance(output_type, type) and issubclass(output_type, BaseModel)
    if output_type is not None and not is_model:
        raise ConfigurationError(f"output_type must be a pydantic model class, got {output_type!r}")
    choice = options.get("tool_choice", "auto")
    if choice not in get_args(_Choice):
        raise ConfigurationError(f"tool_choice must be one of {', '.join(get_args(_Choice))}, got {choice!r}")
    return options
