"""Where the model of a guard runs, as a policy names it: `engine: {url: …, model: …}`. Holds no credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from agentkit.errors import ConfigurationError

_Name = Annotated[str, Field(min_length=1)]


class EngineAddress(BaseModel):
    """A model on a server, in place of one on this machine.

    A policy is read by many, so the API key is never in it: it comes from the environment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(pattern="^https?://", description="The server's address.")]
    model: Annotated[_Name, Field(description="What the server calls the model.")]
    tokenizer: Annotated[
        _Name | None,
        Field(
            description="The model's tokenizer: a catalogue name, a folder or a hub id. By default `model`."
        ),
    ] = None
    api_key_env: Annotated[
        _Name | None,
        Field(
            description="The environment variable with the API key. By default AGENTKIT_API_KEY, if it is set."
        ),
    ] = None

    def api_key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the key of the named variable; None where the policy names none.

        Raises:
            ConfigurationError: if the variable is not set.
        """
        if self.api_key_env is None:
            return None
        key = environment.get(self.api_key_env)
        if not key:
            raise ConfigurationError(
                f"the engine at {self.url} needs its API key in the environment variable {self.api_key_env}, "
                "which is not set"
            )
        return key


def one_of(model: str | None, engine: EngineAddress | None) -> str | EngineAddress:
    """Return which of the two is given.

    Raises:
        ConfigurationError: unless one is, and only one.
    """
    if model is not None and engine is None:
        return model
    if engine is not None and model is None:
        return engine
    raise ConfigurationError("a guard needs a model on this machine, `model`, or one on a server, `engine`")


def name_of(wanted: str | EngineAddress) -> str:
    """Return what the model is called."""
    return wanted if isinstance(wanted, str) else wanted.model
