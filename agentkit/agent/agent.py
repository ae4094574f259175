"""The agent: a model, instructions, tools and a policy. Starts them once and opens sessions on them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack
from uuid import uuid4

import anyio

from agentkit.agent.audit_file import AuditFile
from agentkit.agent.hosting import Host
from agentkit.agent.knowledge import judge_with
from agentkit.agent.limits import Limits
from agentkit.agent.options import RunOptions
from agentkit.agent.result import RunResult
from agentkit.agent.runtime import EngineRoom, Runtime, Setup, start_runtime
from agentkit.agent.saved_kv import forget_kv
from agentkit.agent.session import Session
from agentkit.agent.sub_agent import sub_agent_tool, sub_agents_of
from agentkit.errors import ConfigurationError
from agentkit.inference.base import Engine, SamplingParams
from agentkit.inference.formats.prompt_format import PromptFormat
from agentkit.memory import MemoryStore, open_store
from agentkit.memory.export import session_from_json
from agentkit.memory.knowledge import MAX_HITS, Document, KnowledgeStore
from agentkit.memory.knowledge_urls import open_knowledge
from agentkit.memory.retention import prune
from agentkit.memory.store import SessionInfo, Store
from agentkit.memory.window import Window
from agentkit.shields.audit_sink import AuditSink
from agentkit.shields.base import Shield
from agentkit.shields.decision import Ask
from agentkit.shields.policy import Policy
from agentkit.tools.approval import Approver
from agentkit.tools.base import Approval, Tool
from agentkit.tools.toolset import Toolset


class Agent:
    """An agent behind its shields.

    Args:
        model: A catalogue name, a folder, a `.gguf` file, a hub id, or an `Engine`.
        instructions: What the developer tells the model; trusted, never judged. What an engine caches of it, all
            tenants share: put nothing into it that one of them must not guess.
        tools: Functions made into tools by `@tool`. What the model is told of them is shared likewise.
        policy: A policy, or the path of a policy file. None is the built-in default policy, with probes where the
            model is the embedded one; never "no shields".
        policy_key: An Ed25519 public key, as a path or PEM text: the policy file, and what it extends, must be
            signed by its owner and unchanged since.
        limits: The bounds of each run.
        store: Where sessions are kept: a `Store`, or a URL such as `sqlite:///agent.db`. None keeps them in memory.
        approver: Asked before a call that the policy or the tool wants approved; without one such calls are refused.
        escalate: Asked about content that a shield escalates; without one such content is blocked.
        sampling: How tokens are drawn.
        shields: Ready-made shields by their name in the policy, used in place of building them.
        window: What leaves the context when a conversation fills it.
        knowledge: Long-term memory: a `KnowledgeStore`, or the URL of one. It gives the model two tools,
            `search_knowledge` and `remember`, on the documents of the session's tenant alone.
        audit: Where every decision of the shields is put on record as it is made: the path of an `AuditFile`, or an
            `AuditSink`. Sessions in a store have an audit log of their own besides.
        kv_folder: Where `Session.close` keeps a session's key-value pairs, so that another process goes on warm. The
            files are content, as the store is. None keeps none.
        knowledge_passages: How many passages about what the user says are put behind it; 0 leaves it to the tools.
            They are untrusted, so a turn that begins with some is tainted.
        prompt_format: How prompts are written, where not in the model's own way.

    Use it as `async with agent:` to load the model once and free it at the end. Without the block the first run
    loads it, and `close` frees it. After `close` the agent loads it again, but stores that it opened stay closed.
    """

    def __init__(
        self,
        model: str | Path | Engine,
        *,
        instructions: str = "",
        tools: Sequence[Tool] = (),
        policy: Policy | str | Path | None = None,
        policy_key: str | Path | None = None,
        limits: Limits | None = None,
        store: Store | str | None = None,
        approver: Approver | None = None,
        escalate: Ask | None = None,
        sampling: SamplingParams | None = None,
        shields: Mapping[str, Shield] | None = None,
        window: Window | None = None,
        kv_folder: str | Path | None = None,
        knowledge: KnowledgeStore | str | None = None,
        knowledge_passages: int = 0,
        prompt_format: PromptFormat | None = None,
        audit: AuditSink | str | Path | None = None,
    ) -> None:
        if not 0 <= knowledge_passages <= MAX_HITS:
            raise ConfigurationError(
                f"knowledge_passages must be in [0, {MAX_HITS}], got {knowledge_passages!r}"
            )
        if isinstance(model, str) and not model:
            raise ConfigurationError("model must be a name, a path or an Engine, got an empty string")
        self._setup = Setup(
            model=str(model) if isinstance(model, Path) else model,
            instructions=instructions,
            toolset=Toolset(tools),
            policy=_as_policy(policy, policy_key, model),
            limits=limits or Limits(),
            approver=approver,
            escalate=escalate,
            sampling=sampling or SamplingParams(),
            shields=dict(shields or {}),
            window=window or Window(),
            knowledge=open_knowledge(knowledge) if knowledge is not None else None,
            knowledge_passages=knowledge_passages,
            prompt_format=prompt_format or PromptFormat(),
            audit=AuditFile(audit) if isinstance(audit, str | Path) else audit,
        )
        self.kv_folder = Path(kv_folder) if kv_folder is not None else None
        self._owns_knowledge = isinstance(knowledge, str)
        self._opened: dict[str, Store] = {}
        self._store = self._open_store(store)
        self._keeps = store is not None
        self._runtime: Runtime | None = None
        self._closing = AsyncExitStack()
        self._starting: anyio.Lock | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> Runtime:
        """Load the model and the shields, once; later calls return at once.

        Raises:
            ModelLoadError, ConfigurationError, GrammarError, BlockedError: if a part cannot start; nothing stays
                loaded.
        """
        return await self._started(None)

    async def close(self) -> None:
        """Free what the agent loaded, and close the stores that it opened from a URL."""
        self._runtime = None
        self._starting = None
        closing, self._closing = self._closing, AsyncExitStack()
        for store in self._opened.values():
            closing.push_async_callback(store.close)
        if self._setup.knowledge is not None and self._owns_knowledge:
            closing.push_async_callback(self._setup.knowledge.close)
        await closing.aclose()

    @property
    def toolset(self) -> Toolset:
        """The tools that the agent was made with."""
        return self._setup.toolset

    def session(self, session_id: str | None = None, *, store: Store | str | None = None) -> Session:
        """Return a session: the one that the store holds under this id, or a new one.

        Args:
            session_id: By custom `tenant/session`; None makes a new id.
            store: Where this session is kept; None is the agent's store.
        """
        return Session(
            self,
            f"session-{uuid4().hex[:12]}" if session_id is None else session_id,
            self._store if store is None else self._open_store(store),
        )

    async def sessions(self, prefix: str = "") -> list[SessionInfo]:
        """Return what the agent's store holds of the sessions whose id starts with the prefix, sorted by id."""
        return await self._store.list(prefix)

    async def prune_sessions(self, *, before: datetime, prefix: str = "") -> tuple[str, ...]:
        """Delete the sessions of the agent's store not updated since `before`; return their ids.

        A session that is running, or whose last turn has not ended, stays.

        Raises:
            ConfigurationError: if `before` has no time zone.
        """
        pruned = await prune(self._store, before=before, prefix=prefix)
        for session_id in pruned:
            await forget_kv(self.kv_folder, session_id)
        return pruned

    async def add_document(self, document: Document, *, tenant: str = "") -> str:
        """Keep a document in a tenant's long-term memory; return its id.

        Raises:
            ConfigurationError: if the agent has no knowledge.
            BlockedError: if the document does not pass stage `memory`; nothing is kept.
        """
        runtime = await self.start()
        desk = runtime.knowledge_of(tenant, judge_with(runtime.pipeline, scope=tenant))
        if desk is None:
            raise ConfigurationError("the agent has no knowledge; pass Agent(knowledge='sqlite:///agent.db')")
        return await desk.add(document)

    async def import_session(
        self, data: Mapping[str, Any], session_id: str | None = None, *, store: Store | str | None = None
    ) -> Session:
        """Return a session made of what `Session.export` gave, under its own id or another one.

        Its content is judged at stage `memory`, as when it is loaded, and kept in the store at once.

        Raises:
            ConfigurationError: if the data is no exported session.
            SessionBusyError: if the store holds a session of that id.
            BlockedError: if content does not pass stage `memory`.
        """
        imported = session_from_json(data, session_id=session_id)
        session = self.session(imported.id, store=store)
        await session.begin_with(imported)
        return session

    async def run(self, text: str, **options: Unpack[RunOptions]) -> RunResult:
        """Run one turn in a new session of its own; without a store, nothing of it is kept."""
        session = self.session(store=self._store if self._keeps else MemoryStore())
        try:
            return await session.run(text, **options)
        finally:
            await session.end_tools()

    def run_sync(self, text: str, **options: Unpack[RunOptions]) -> RunResult:
        """Run one turn from code that is not async.

        Raises:
            ConfigurationError: if an event loop is running in this thread, as it is in a notebook.
        """
        if _in_event_loop():
            raise ConfigurationError(
                "run_sync cannot be called from async code; use `await agent.run(...)` there"
            )
        return anyio.run(lambda: self.run(text, **options))

    def as_tool(
        self,
        name: str,
        description: str,
        *,
        approval: Approval | Literal["always", "never"] | None = None,
        timeout: float = 300.0,
    ) -> Tool:
        """Return the agent as a tool of another: `name(task)` runs one turn in a session of its own.

        It starts and closes with the agent that has the tool, and shares a model that both name. What it spends is
        bounded by its own limits and by what is left of the calling turn's steps, tokens, seconds and tool calls, and
        is spent of them. Its policy judges the task as input, untrusted if the calling turn has read untrusted
        content, and all that it does; the calling agent's policy judges the call and, as an untrusted result, the
        answer. Calls of its own that need approval are put to its approver, or else to that of the calling agent; an
        answer for later is a no. Its memory is that of the calling session's tenant.

        Args:
            name: What the model of the other agent calls it.
            description: What it is good for.
            approval: `always` asks a person for every call.
            timeout: How many seconds one call may take.

        Raises:
            ToolDefinitionError: if the name or the timeout cannot be used.
        """
        return sub_agent_tool(
            self, self._setup, name=name, description=description, approval=approval, timeout=timeout
        )

    async def run_for(self, host: Host, task: str) -> RunResult:
        """Run one turn for the turn of another agent, in a new session of the same tenant; see `as_tool`."""
        session_id = f"session-{uuid4().hex[:12]}"
        session = self.session(
            f"{host.tenant}/{session_id}" if host.tenant else session_id,
            store=self._store if self._keeps else MemoryStore(),
        )
        return await session.run_for(host, task)

    def _open_store(self, store: Store | str | None) -> Store:
        """Open each URL once: a store given as an object stays the caller's to close."""
        if not isinstance(store, str):
            return open_store(store)
        if store not in self._opened:
            self._opened[store] = open_store(store)
        return self._opened[store]

    async def _started(self, room: EngineRoom | None) -> Runtime:
        """Return what the agent runs on, started now or earlier; `room` is that of an agent that this one works for."""
        if self._runtime is not None:
            return self._runtime
        self._starting = self._starting or anyio.Lock()
        async with self._starting:
            if self._runtime is None:
                self._runtime = await self._start(room)
        return self._runtime

    async def _start(self, room: EngineRoom | None) -> Runtime:
        async with AsyncExitStack() as closing:
            own_room = room or EngineRoom(closing)
            runtime = await start_runtime(self._setup, own_room, closing)
            for agent in sub_agents_of(self._setup.toolset):
                if agent._runtime is None:  # one that runs already keeps what it runs on
                    await agent._started(own_room)
                    closing.push_async_callback(agent.close)
            self._closing = closing.pop_all()
        return runtime


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _as_policy(
    policy: Policy | str | Path | None, key: str | Path | None, model: str | Path | Engine
) -> Policy:
    if isinstance(policy, str | Path):
        return Policy.load(policy, public_key=key)
    if key is not None:
        raise ConfigurationError("policy_key verifies a policy file; pass its path as policy")
    return Policy.for_model(model) if policy is None else policy
