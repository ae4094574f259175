"""The tree of errors. Knows no room; every room raises from here.

Messages carry names, sizes and bounds, never the content of a user.
"""

from __future__ import annotations


class AgentKitError(Exception):
    """Base of every error that agentkit raises on purpose."""


class ConfigurationError(AgentKitError):
    """A setting is wrong: the message names the value, the bound and what to do."""


class PolicyError(ConfigurationError):
    """A policy file is wrong; `line` is 1-based, or None when the whole file is meant."""

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None) -> None:
        self.path = path
        self.line = line
        where = ":".join(str(part) for part in (path, line) if part is not None)
        super().__init__(f"{where}: {message}" if where else message)


class ToolDefinitionError(ConfigurationError):
    """A function cannot become a tool, for instance because an argument has no type."""


class InferenceError(AgentKitError):
    """The engine could not do what was asked; it goes on serving the others."""


class ModelLoadError(InferenceError):
    """A checkpoint is missing, truncated, foreign, or does not fit its configuration."""


class ContextLengthError(InferenceError):
    """A prompt does not fit: the message carries both numbers."""

    def __init__(self, *, prompt_tokens: int, context_length: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
        super().__init__(
            f"context is {context_length} tokens, prompt has {prompt_tokens}; "
            "shorten the conversation or use a model with a longer context"
        )


class GrammarError(InferenceError):
    """A schema cannot be compiled into a grammar, or a grammar cannot match."""


class KVFileError(InferenceError):
    """A file of saved keys and values is missing, damaged, foreign, or cannot be written."""


class RemoteError(InferenceError):
    """A model server cannot be reached, or did not do what was asked.

    `status` is HTTP's, None where nothing was answered. `transient` says that the same request may succeed later, or
    elsewhere; `retry_after` is how many seconds the server asks to wait before.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.transient = transient
        self.retry_after = retry_after
        super().__init__(message)


class ShieldError(AgentKitError):
    """A shield could not reach a verdict. The pipeline turns this into the policy's failure action."""


class ToolError(AgentKitError):
    """A tool call failed; `str(error)` is safe for the model to read."""


class UnknownToolError(ToolError):
    """The model asked for a tool that was not offered."""


class InvalidArgumentsError(ToolError):
    """Arguments do not fit the tool's schema."""


class ToolTimeoutError(ToolError):
    """A tool ran longer than its timeout."""


class StoreError(AgentKitError):
    """A store cannot be read or written: locked, corrupt, foreign, or from a newer version."""


class SessionBusyError(StoreError):
    """Another run is changing this session."""


class UnfinishedTurnError(StoreError):
    """The session's last turn was interrupted, or waits for an approval: resume it or abandon it first."""


class BlockedError(AgentKitError):
    """Raised by `RunResult.raise_if_blocked()`; carries stage, shield and category, never content."""

    def __init__(self, message: str, *, stage: str, shield: str | None, category: str | None) -> None:
        self.stage = stage
        self.shield = shield
        self.category = category
        super().__init__(message)
