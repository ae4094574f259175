"""A story at an edge: an agent on a real engine and real files, and every place that content gets to."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit import Agent, AgentKitError, Code, Policy, Stage, Tool, ToolError, tool
from agentkit.agent.events import Event
from agentkit.testing import StaticShield
from tests.agent.dictating import DictatedEngine
from tests.agent.support import STAGES, policy

CANARY = "xyzzy"


class World:
    """One story at one edge: what runs in it, and what it leaves behind.

    Where `blocked_at` is set, the agent's policy blocks the canary at that stage, and nothing anywhere else.
    """

    def __init__(
        self,
        folder: Path,
        spans: InMemorySpanExporter,
        logs: Sequence[logging.LogRecord],
        *,
        blocked_at: Stage | None,
    ) -> None:
        self.folder = folder
        self.blocked_at = blocked_at
        self.engine = DictatedEngine()
        self.helper_engine = DictatedEngine()
        self.called: list[str] = []
        self.told: list[Event] = []
        self.errors: list[str] = []
        self._spans = spans
        self._logs = logs

    @property
    def guarding(self) -> dict[str, Any]:
        """The options of an agent that its story's policy guards."""
        rule = [{"shield": "canary", "on_hit": "block"}]
        document = {
            "version": 1,
            "shields": {"canary": {"use": "instruction_override"}},
            "stages": {stage: rule if stage == self.blocked_at else [] for stage in STAGES},
            "streaming": {"segment_tokens": 4},
        }
        shield = StaticShield(flagged=lambda content: CANARY in content.text)
        return {
            "policy": Policy.parse(json.dumps(document)),
            "shields": {"canary": shield} if self.blocked_at else None,
        }

    @property
    def unguarded(self) -> dict[str, Any]:
        """The options of an agent that lets everything through: it puts the canary where a story begins."""
        return {"policy": policy(), "shields": None}

    @asynccontextmanager
    async def agent(self, *replies: str, **options: Any) -> AsyncIterator[Agent]:
        """Open an agent that says the replies, keeps sessions in a file, and is guarded unless the options differ."""
        self.engine.replies = list(replies)
        chosen = {
            "tools": self.tools,
            "store": f"sqlite:///{self.folder}/agent.db",
            **self.guarding,
            **options,
        }
        async with Agent(self.engine, **chosen) as agent:
            yield agent

    async def run(self, agent: Agent, text: str, *, session: str = "t/1") -> None:
        """Run one turn and keep all that it tells; an error is kept as what it says."""
        try:
            async with agent.session(session).stream(text) as run:
                self.told += [event async for event in run]
        except AgentKitError as error:
            self.fails(error)

    def fails(self, error: BaseException | None) -> None:
        """Keep what an error says, and what those behind it say."""
        while error is not None:
            self.errors.append(str(error))
            error = error.__cause__ or error.__context__

    @property
    def tools(self) -> list[Tool]:
        """A tool for each kind of edge; they write down what they are called with."""

        @tool(effect="read")
        def look_up(topic: str) -> str:
            """Look a topic up."""
            self.called.append(topic)
            return f"All about {topic.replace('_', '')}."

        @tool(effect="read")
        def run_python(code: Annotated[str, Code("python")]) -> str:
            """Run Python code."""
            self.called.append(code)
            return "done"

        @tool(effect="read")
        def fail(topic: str) -> str:
            """Fail, and say why."""
            self.called.append(topic)
            raise ToolError(f"there is no {topic.replace('_', '')}")

        @tool(effect="write", approval="always")
        def send(text: str) -> str:
            """Send a text."""
            self.called.append(text)
            return "sent"

        return [look_up, run_python, fail, send]

    async def reached(self) -> set[str]:
        """Return the places where the canary is."""
        texts = {
            "engine": "".join(self.engine.prompts),
            "helper": "".join(self.helper_engine.prompts),
            "kv": await self.engine.cached_text() + await self.helper_engine.cached_text(),
            "tool": repr(self.called),
            "store": _bytes_of(self.folder, "agent.db*"),
            "knowledge": _bytes_of(self.folder, "knowledge.db*"),
            "events": repr(self.told),
            "errors": repr(self.errors),
            "telemetry": "".join(span.to_json() for span in self._spans.get_finished_spans()),
            "logs": "".join(f"{record.getMessage()} {record.exc_text}" for record in self._logs),
        }
        return {place for place, text in texts.items() if CANARY in text}

    async def close(self) -> None:
        """End the engines."""
        await self.engine.close()
        await self.helper_engine.close()


def _bytes_of(folder: Path, pattern: str) -> str:
    """Return what the files hold, the rests that SQLite leaves in them included."""
    return "".join(path.read_bytes().decode("latin-1") for path in folder.glob(pattern))
