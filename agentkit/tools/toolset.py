"""The tools of one agent, by name. Calls none of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentkit.errors import ToolDefinitionError, UnknownToolError
from agentkit.messages import ToolSpec
from agentkit.nearest import nearest
from agentkit.tools.base import Tool
from agentkit.tools.state import SessionKey
from agentkit.tools.wording import listed, shown


class Toolset:
    """An unchangeable collection of tools with unique names, in the order in which they were given."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """Collect the tools.

        Raises:
            ToolDefinitionError: if something is not a tool, or a name is taken twice.
        """
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if not isinstance(tool, Tool):
                raise ToolDefinitionError(_not_a_tool(tool))
            if tool.name in self._tools:
                raise ToolDefinitionError(f"two tools are named {tool.name}; pass name= to one of them")
            self._tools[tool.name] = tool

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What a model is told about the tools."""
        return tuple(tool.spec for tool in self)

    def get(self, name: str) -> Tool:
        """Return a tool.

        Raises:
            UnknownToolError: naming the tools that there are, and the nearest; the message is for the model.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise UnknownToolError(self._unknown(name))
        return tool

    async def end_session(self, session: SessionKey) -> None:
        """Free what the tools keep for a session."""
        for tool in self:
            if tool.state is not None:
                await tool.state.end(session)

    async def end_all_sessions(self) -> None:
        """Free what the tools keep for any session."""
        for tool in self:
            if tool.state is not None:
                await tool.state.end_all()

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def _unknown(self, name: str) -> str:
        if not self._tools:
            return (
                f"There is no tool named {shown(name)}: no tools are available. Answer without calling one."
            )
        guess = nearest(name, self._tools)
        hint = f" Did you mean {guess}?" if guess else ""
        return f"There is no tool named {shown(name)}.{hint} The tools are: {listed(self._tools)}."


def _not_a_tool(value: object) -> str:
    name = getattr(value, "__name__", None)
    if callable(value) and name is not None:
        return f"{name} is a plain function; write @tool above it, or pass tool({name})"
    return f"tools must be made with @tool, got {type(value).__name__}"
