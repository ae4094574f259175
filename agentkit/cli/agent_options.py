"""What a command line says about an agent -> the agent. The model is loaded by its first turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentkit.agent.agent import Agent
from agentkit.cli.loading import import_modules, load_policy, load_tools
from agentkit.cli.options import EMBEDDED_MODEL
from agentkit.inference.base import SamplingParams
from agentkit.memory.store import SessionHeader
from agentkit.tools.approval import Approver


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The options `-m`, `-p`, `-t`, `-i`, `--import` and `--max-tokens`; None was not said."""

    model: str | None = None
    policy: Path | None = None
    tools: Sequence[str] = ()
    instructions: str | None = None
    imports: Sequence[str] = ()
    max_tokens: int | None = None

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
            model,
            instructions=self.instructions or "",
            tools=load_tools(self.tools),
            policy=load_policy(self.policy, model=model),
            approver=approver,
            sampling=sampling,
        )
