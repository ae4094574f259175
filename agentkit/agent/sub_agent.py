"""An agent as a tool of another one: a task in, its answer out, within what is left to the turn that called it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, assert_never

from agentkit.agent.hosting import current_host
from agentkit.agent.result import RunResult, RunStatus
from agentkit.errors import ToolError
from agentkit.tools.base import Approval, Effect, Tool
from agentkit.tools.decorator import tool
from agentkit.tools.toolset import Toolset

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent
    from agentkit.agent.runtime import Setup

_FROM_MILD_TO_STRICT: Final = (Effect.READ, Effect.WRITE, Effect.EXTERNAL)


class SubAgent:
    """What the tool's function belongs to: so an agent finds, among its tools, the agents that it has to start."""

    def __init__(self, agent: Agent, *, name: str) -> None:
        self.agent = agent
        self._name = name

    async def run(self, task: str) -> str:
        """Work on a task and return the answer.

        Args:
            task: What is to be done, with all that is needed for it: nothing else of the conversation is seen.
        """
        result = await self.agent.run_for(current_host(), task)
        return self._answer(result)

    def _answer(self, result: RunResult) -> str:
        """Return what the model of the calling turn reads.

        Raises:
            ToolError: if the run did not complete; without its content.
        """
        match result.status:
            case RunStatus.COMPLETED:
                return str(result.output)
            case RunStatus.BLOCKED:
                decision = result.blocked_by
                where = f" at stage {decision.stage.value}" if decision is not None else ""
                raise ToolError(f"{self._name} was stopped by its safety policy{where}")
            case RunStatus.LIMIT_REACHED:
                raise ToolError(f"{self._name} did not finish: the limit of {result.limit} was reached")
            case RunStatus.AWAITING_APPROVAL | RunStatus.CANCELLED:
                raise ToolError(f"{self._name} did not finish")
            case _:
                assert_never(result.status)


def sub_agent_tool(
    agent: Agent,
    setup: Setup,
    *,
    name: str,
    description: str,
    approval: Approval | Literal["always", "never"] | None,
    timeout: float,
) -> Tool:
    """Return an agent as a tool. Its effect is the strictest of its own tools': what they may do, a call of it may."""
    effects = [made.effect for made in setup.toolset]
    effects.append(Effect.WRITE if setup.knowledge is not None else Effect.READ)  # it may remember
    return tool(
        SubAgent(agent, name=name).run,
        name=name,
        description=description,
        effect=max(effects, key=_FROM_MILD_TO_STRICT.index),
        approval=approval,
        timeout=timeout,
    )


def sub_agents_of(toolset: Toolset) -> list[Agent]:
    """Return the agents that are among the tools."""
    owners = [getattr(made.function, "__self__", None) for made in toolset]
    return [owner.agent for owner in owners if isinstance(owner, SubAgent)]
