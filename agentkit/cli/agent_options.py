"""What a command line says about an agent -> the agent. The model is loaded by its first turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentkit.agent.agent import Agent
from agentkit.cli.loading import import_modules, load_policy, load_tools
from agentkit.cli.options import EMBEDDED_MODEL
from agentkit.errors import ConfigurationError
from agentkit.inference.base import SamplingParams
from agentkit.memory.store import SessionHeader
from agentkit.tools.approval import Approver

if TYPE_CHECKING:
    from agentkit.inference.remote import RemoteEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The options that describe an agent: `-m`, `-p`, `-t`, `-i` and so on; None was not said."""

    model: str | None = None
    policy: Path | None = None
    tools: Sequence[str] = ()
    instructions: str | None = None
    imports: Sequence[str] = ()
    max_tokens: int | None = None
    engine_url: str | None = None
    tokenizer: str | None = None

    def of_session(self, header: SessionHeader) -> AgentOptions:
        """Return the options with the session's model where they name none."""
        return self if self.model is not None else replace(self, model=header.model)

    def agent(self, *, approver: Approver | None = None) -> Agent:
        """Return the agent that they describe.

        Raises:
            ConfigurationError: if a module, a tool or the policy file cannot be loaded.
        """
        import_modules(self.imports)
        sampling = SamplingParams(max_tokens=self.max_tokens) if self.max_tokens is not None else None
        model = self.model or EMBEDDED_MODEL
        return Agent(
            model_or_engine(model, engine_url=self.engine_url, tokenizer=self.tokenizer),
            instructions=self.instructions or "",
            tools=load_tools(self.tools),
            policy=load_policy(self.policy, model=None if self.engine_url else model),
            approver=approver,
            sampling=sampling,
        )


def model_or_engine(model: str, *, engine_url: str | None, tokenizer: str | None) -> str | RemoteEngine:
    """Return the model by its name, or the engine of the server that runs it.

    Raises:
        ConfigurationError: if the address is none, or a tokenizer is named for a model on this machine.
    """
    if engine_url is not None:
        from agentkit.inference.remote import RemoteEngine

        return RemoteEngine(engine_url, model, tokenizer=tokenizer)
    if tokenizer is not None:
        raise ConfigurationError("--tokenizer is for a model on a server; name the server with --engine-url")
    return model
