"""agentkit: agents that run on your own machine, behind shields that cannot be bypassed.

Everything public is here, flat. Names load when they are first used: importing agentkit loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent as Agent
    from agentkit.agent.audit_file import AuditFile as AuditFile
    from agentkit.agent.events import ApprovalRequested as ApprovalRequested
    from agentkit.agent.events import ContextTrimmed as ContextTrimmed
    from agentkit.agent.events import Event as Event
    from agentkit.agent.events import RunFinished as RunFinished
    from agentkit.agent.events import ShieldDecision as ShieldDecision
    from agentkit.agent.events import TextDelta as TextDelta
    from agentkit.agent.events import ToolCallFinished as ToolCallFinished
    from agentkit.agent.events import ToolCallStarted as ToolCallStarted
    from agentkit.agent.limits import Limits as Limits
    from agentkit.agent.result import RunResult as RunResult
    from agentkit.agent.result import RunStatus as RunStatus
    from agentkit.agent.result import RunUsage as RunUsage
    from agentkit.agent.run import Run as Run
    from agentkit.agent.session import Session as Session
    from agentkit.cleared import Cleared as Cleared
    from agentkit.errors import AgentKitError as AgentKitError
    from agentkit.errors import BlockedError as BlockedError
    from agentkit.errors import ConfigurationError as ConfigurationError
    from agentkit.errors import ContextLengthError as ContextLengthError
    from agentkit.errors import GrammarError as GrammarError
    from agentkit.errors import InferenceError as InferenceError
    from agentkit.errors import InvalidArgumentsError as InvalidArgumentsError
    from agentkit.errors import ModelLoadError as ModelLoadError
    from agentkit.errors import PolicyError as PolicyError
    from agentkit.errors import RemoteError as RemoteError
    from agentkit.errors import SessionBusyError as SessionBusyError
    from agentkit.errors import ShieldError as ShieldError
    from agentkit.errors import StoreError as StoreError
    from agentkit.errors import ToolDefinitionError as ToolDefinitionError
    from agentkit.errors import ToolError as ToolError
    from agentkit.errors import UnfinishedTurnError as UnfinishedTurnError
    from agentkit.inference.base import Engine as Engine
    from agentkit.inference.base import SamplingParams as SamplingParams
    from agentkit.inference.config import EngineConfig as EngineConfig
    from agentkit.inference.engine import LocalEngine as LocalEngine
    from agentkit.inference.formats.prompt_format import PromptFormat as PromptFormat
    from agentkit.inference.remote import RemoteEngine as RemoteEngine
    from agentkit.inference.remote_pool import RemotePool as RemotePool
    from agentkit.inference.remote_server import RemoteTimeouts as RemoteTimeouts
    from agentkit.memory.in_process import MemoryStore as MemoryStore
    from agentkit.memory.knowledge import Document as Document
    from agentkit.memory.knowledge import Embedder as Embedder
    from agentkit.memory.knowledge import KnowledgeStore as KnowledgeStore
    from agentkit.memory.postgres import PostgresStore as PostgresStore
    from agentkit.memory.sqlite import SQLiteStore as SQLiteStore
    from agentkit.memory.store import SessionInfo as SessionInfo
    from agentkit.memory.store import Store as Store
    from agentkit.memory.window import Window as Window
    from agentkit.messages import Message as Message
    from agentkit.messages import Origin as Origin
    from agentkit.messages import Provenance as Provenance
    from agentkit.messages import Role as Role
    from agentkit.messages import ToolCall as ToolCall
    from agentkit.shields.audit_sink import AuditSink as AuditSink
    from agentkit.shields.base import Action as Action
    from agentkit.shields.base import Finding as Finding
    from agentkit.shields.base import Shield as Shield
    from agentkit.shields.base import ShieldInput as ShieldInput
    from agentkit.shields.base import Stage as Stage
    from agentkit.shields.base import Verdict as Verdict
    from agentkit.shields.decision import Decision as Decision
    from agentkit.shields.pipeline import Pipeline as Pipeline
    from agentkit.shields.policy import Policy as Policy
    from agentkit.shields.registry import register_shield as register_shield
    from agentkit.tools.approval import ApprovalDecision as ApprovalDecision
    from agentkit.tools.approval import ApprovalRequest as ApprovalRequest
    from agentkit.tools.approval import ask_later as ask_later
    from agentkit.tools.base import Code as Code
    from agentkit.tools.base import Tool as Tool
    from agentkit.tools.builtin.brave_search import BraveSearch as BraveSearch
    from agentkit.tools.builtin.brave_search import SearchProvider as SearchProvider
    from agentkit.tools.builtin.brave_search import SearchResult as SearchResult
    from agentkit.tools.builtin.brave_search import brave_search as brave_search
    from agentkit.tools.builtin.wolfram_alpha import wolfram_alpha as wolfram_alpha
    from agentkit.tools.call_context import CallContext as CallContext
    from agentkit.tools.call_context import current_call as current_call
    from agentkit.tools.code_interpreter import code_interpreter as code_interpreter
    from agentkit.tools.decorator import tool as tool
    from agentkit.tools.mcp.servers import MCPHttp as MCPHttp
    from agentkit.tools.mcp.servers import MCPStdio as MCPStdio
    from agentkit.tools.mcp.toolbox import MCPTools as MCPTools
    from agentkit.tools.mcp.toolbox import mcp_tools as mcp_tools
    from agentkit.tools.sandbox.base import Attachment as Attachment
    from agentkit.tools.sandbox.base import SandboxLimits as SandboxLimits

_HOMES = {
    "agent.agent": ("Agent",),
    "agent.audit_file": ("AuditFile",),
    "agent.events": (
        "ApprovalRequested",
        "ContextTrimmed",
        "Event",
        "RunFinished",
        "ShieldDecision",
        "TextDelta",
        "ToolCallFinished",
        "ToolCallStarted",
    ),
    "agent.limits": ("Limits",),
    "agent.result": ("RunResult", "RunStatus", "RunUsage"),
    "agent.run": ("Run",),
    "agent.session": ("Session",),
    "cleared": ("Cleared",),
    "errors": (
        "AgentKitError",
        "BlockedError",
        "ConfigurationError",
        "ContextLengthError",
        "GrammarError",
        "InferenceError",
        "InvalidArgumentsError",
        "ModelLoadError",
        "PolicyError",
        "RemoteError",
        "SessionBusyError",
        "ShieldError",
        "StoreError",
        "ToolDefinitionError",
        "ToolError",
        "UnfinishedTurnError",
    ),
    "inference.base": ("Engine", "SamplingParams"),
    "inference.config": ("EngineConfig",),
    "inference.engine": ("LocalEngine",),
    "inference.formats.prompt_format": ("PromptFormat",),
    "inference.remote": ("RemoteEngine",),
    "inference.remote_pool": ("RemotePool",),
    "inference.remote_server": ("RemoteTimeouts",),
    "memory.in_process": ("MemoryStore",),
    "memory.knowledge": ("Document", "Embedder", "KnowledgeStore"),
    "memory.postgres": ("PostgresStore",),
    "memory.sqlite": ("SQLiteStore",),
    "memory.store": ("SessionInfo", "Store"),
    "memory.window": ("Window",),
    "messages": ("Message", "Origin", "Provenance", "Role", "ToolCall"),
    "shields.audit_sink": ("AuditSink",),
    "shields.base": ("Action", "Finding", "Shield", "ShieldInput", "Stage", "Verdict"),
    "shields.decision": ("Decision",),
    "shields.pipeline": ("Pipeline",),
    "shields.policy": ("Policy",),
    "shields.registry": ("register_shield",),
    "tools.approval": ("ApprovalDecision", "ApprovalRequest", "ask_later"),
    "tools.base": ("Code", "Tool"),
    "tools.builtin.brave_search": ("BraveSearch", "SearchProvider", "SearchResult", "brave_search"),
    "tools.builtin.wolfram_alpha": ("wolfram_alpha",),
    "tools.call_context": ("CallContext", "current_call"),
    "tools.code_interpreter": ("code_interpreter",),
    "tools.decorator": ("tool",),
    "tools.mcp.servers": ("MCPHttp", "MCPStdio"),
    "tools.mcp.toolbox": ("MCPTools", "mcp_tools"),
    "tools.sandbox.base": ("Attachment", "SandboxLimits"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]  # tested against the imports above


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'agentkit' has no attribute {name!r}")
    value = getattr(import_module(f"agentkit.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
