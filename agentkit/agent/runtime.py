"""What an agent runs on once it started: engine, pipeline, tools, all judged. Shared by its sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, runtime_checkable

import anyio.to_thread

from agentkit.agent.knowledge import JudgeText, KnowledgeDesk, judge_with
from agentkit.agent.limits import Limits
from agentkit.agent.metering import metered
from agentkit.cleared import Cleared
from agentkit.errors import BlockedError
from agentkit.inference.base import Engine, SamplingParams
from agentkit.inference.formats.call_rules import check_tools
from agentkit.inference.formats.prompt_format import PromptFormat
from agentkit.json_schema import structure, words
from agentkit.memory.knowledge import KnowledgeStore
from agentkit.memory.window import Window
from agentkit.messages import ToolSpec
from agentkit.shields.audit_sink import AuditSink
from agentkit.shields.base import Shield, ShieldInput, Stage
from agentkit.shields.decision import Ask
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.pipeline import WITHHELD_NOTE, Pipeline
from agentkit.shields.policy import Policy
from agentkit.tools.approval import Approver
from agentkit.tools.base import Tool
from agentkit.tools.toolset import Toolset


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What an agent was told to be; nothing of it is loaded."""

    model: str | Engine
    instructions: str
    toolset: Toolset
    policy: Policy
    limits: Limits
    approver: Approver | None
    escalate: Ask | None
    sampling: SamplingParams
    shields: Mapping[str, Shield]
    window: Window
    knowledge: KnowledgeStore | None
    knowledge_passages: int
    prompt_format: PromptFormat
    audit: AuditSink | None = None

    @property
    def model_name(self) -> str:
        """The model's name for people: as it was given, or as the engine calls itself, or the engine's type."""
        if isinstance(self.model, str):
            return self.model
        return str(getattr(self.model, "name", type(self.model).__name__))


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A setup, and the parts that were started for it. `tools` and `instructions` are cleared."""

    setup: Setup
    engine: Engine
    pipeline: Pipeline
    tools: Cleared[tuple[ToolSpec, ...]]
    instructions: Cleared[str]

    def knowledge_of(self, tenant: str, judge: JudgeText) -> KnowledgeDesk | None:
        """Return the desk of a tenant's long-term memory; None where the agent has none."""
        knowledge = self.setup.knowledge
        return KnowledgeDesk(knowledge, tenant=tenant, judge=judge) if knowledge is not None else None

    def toolset_of(self, knowledge: KnowledgeDesk | None) -> Toolset:
        """Return the tools of a session: the agent's own, and those of its tenant's long-term memory."""
        if knowledge is None:
            return self.setup.toolset
        return Toolset([*self.setup.toolset, *knowledge.tools()])


@runtime_checkable
class SupportsStart(Protocol):
    """An engine that has something to find out before its tokenizer and its context are known."""

    async def start(self) -> object:
        """Find it out, once; later calls return at once."""


class EngineRoom:
    """Loads each model once, for the agent, its sub-agents and the shields that name one; closes what it loaded."""

    def __init__(self, closing: AsyncExitStack) -> None:
        self._closing = closing
        self._engines: dict[str, Engine] = {}
        self._remote_engines: dict[EngineAddress, Engine] = {}

    async def engine(self, model: str | Engine) -> Engine:
        """Return the engine of a model; an engine that the caller made stays the caller's to close."""
        if not isinstance(model, str):
            if isinstance(model, SupportsStart):
                await model.start()
            return model
        if model not in self._engines:
            # Imported here, in a thread: only a local model needs torch, and that takes a second to load.
            module = await anyio.to_thread.run_sync(import_module, "agentkit.inference.engine")
            engine: Engine = await module.LocalEngine.load(model)
            self._closing.push_async_callback(engine.close)
            self._engines[model] = engine
        return self._engines[model]

    async def shield_engine(self, wanted: str | EngineAddress) -> Engine:
        """Return the engine that a shield named, here or on a server, counting what it prefills."""
        engine = await self.engine(wanted) if isinstance(wanted, str) else await self._remote(wanted)
        return metered(engine)

    async def _remote(self, address: EngineAddress) -> Engine:
        if address not in self._remote_engines:
            module = await anyio.to_thread.run_sync(import_module, "agentkit.inference.remote")
            engine: Engine = module.RemoteEngine(
                address.url, address.model, tokenizer=address.tokenizer, api_key=address.api_key()
            )
            self._closing.push_async_callback(engine.close)
            self._remote_engines[address] = await self.engine(engine)
        return self._remote_engines[address]


async def start_runtime(setup: Setup, room: EngineRoom, closing: AsyncExitStack) -> Runtime:
    """Load the model, start the shields and judge the tools' descriptions; `closing` frees them.

    Raises:
        ModelLoadError, ConfigurationError: if a part cannot start.
        GrammarError: if a tool's schema says something that a grammar cannot hold.
        BlockedError: if a tool's description does not pass stage `tool_description`.
    """
    check_tools(setup.toolset.specs)
    pipeline = Pipeline(
        setup.policy,
        engines=room.shield_engine,
        ask=setup.escalate,
        overrides=setup.shields,
        audit=setup.audit,
    )
    await pipeline.start()
    closing.push_async_callback(pipeline.close)
    closing.push_async_callback(setup.toolset.end_all_sessions)
    return Runtime(
        setup=setup,
        pipeline=pipeline,
        tools=Cleared.all([await _cleared_spec(pipeline, tool) for tool in _tools(setup, pipeline)]),
        engine=await room.engine(setup.model),
        instructions=pipeline.vouch(setup.instructions),
    )


def _tools(setup: Setup, pipeline: Pipeline) -> Toolset:
    """Return the tools that the model is told about; they are described alike to every tenant."""
    if setup.knowledge is None:
        return setup.toolset
    desk = KnowledgeDesk(setup.knowledge, tenant="", judge=judge_with(pipeline))
    return Toolset([*setup.toolset, *desk.tools()])


async def _cleared_spec(pipeline: Pipeline, tool: Tool) -> Cleared[ToolSpec]:
    """Judge what the model would be told about a tool: its description and every word of its schema.

    Where shields change something, the model is told the tool's name and the structure of its arguments alone.
    """
    spec = tool.spec
    whole = await _cleared_words(pipeline, tool, [spec.description, *words(spec.parameters)])
    if whole is not None:
        return whole.map(lambda _: spec)
    bare = ToolSpec(name=spec.name, description=WITHHELD_NOTE, parameters=structure(spec.parameters))
    kept = await _cleared_words(pipeline, tool, words(bare.parameters))
    if kept is None:
        raise _refused(spec, shield=None, category=None)
    return kept.map(lambda _: bare)


async def _cleared_words(pipeline: Pipeline, tool: Tool, said: Sequence[str]) -> Cleared[str] | None:
    """Return the words if shields leave them as they are, or None."""
    text = "\n".join(said)
    content = ShieldInput(text=text, stage=Stage.TOOL_DESCRIPTION, provenance=tool.described_by)
    decision = await pipeline.judge(content)
    if decision.cleared is None:
        raise _refused(tool.spec, shield=decision.shield, category=decision.category)
    return decision.cleared if decision.cleared.value == text else None


def _refused(spec: ToolSpec, *, shield: str | None, category: str | None) -> BlockedError:
    return BlockedError(
        f"the description of tool {spec.name} was blocked by shield {shield or 'of stage tool_description'}; "
        "reword it and the names of its arguments, or drop the tool",
        stage=Stage.TOOL_DESCRIPTION.value,
        shield=shield,
        category=category,
    )
