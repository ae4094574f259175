"""A sandbox made with pydantic-monty: an interpreter of a part of Python that knows no files, network or processes.

Needs no system package and no namespaces. Its workers are processes of their own.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import anyio

from agentkit.errors import ConfigurationError
from agentkit.tools.sandbox.base import Ending, Execution, NotStartedError, SandboxLimits
from agentkit.tools.sandbox.printed import Output

if TYPE_CHECKING:
    import pydantic_monty

_START_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 10.0
# More than this is nobody's output: the code is stopped with a MemoryError of its own.
_FLOOD_BYTES: Final = 8 * 2**20
# The value of a last expression, and what was raised, are copied to the host: no more than a few times this.
_MAX_MEMORY: Final = 64 * 2**20


class Monty:
    """Sessions of Monty, where pydantic-monty is installed."""

    name = "monty"
    description = (
        "The session knows a part of Python only: no files, no network, no packages, few modules of the standard "
        "library, no class inheritance."
    )

    def __init__(self) -> None:
        """Load the interpreter.

        Raises:
            ConfigurationError: if it is not installed.
        """
        problem = monty_problem()
        if problem is not None:
            raise ConfigurationError(problem)
        self._monty: Any = import_module("pydantic_monty")

    def open(self, limits: SandboxLimits) -> MontySession:
        """Return a new session; its process starts with the first call."""
        return MontySession(self._monty, limits)


def monty_problem() -> str | None:
    """Return why Monty cannot be used here, or None."""
    try:
        import_module("pydantic_monty").AsyncMonty()
    except ImportError:
        return "pydantic-monty is not installed: pip install 'agentkit[sandbox]'"
    except OSError:
        return "pydantic-monty has no worker program here: pip install --force-reinstall pydantic-monty"
    return None


def monty_version() -> str:
    """Return the version of the interpreter."""
    return version("pydantic-monty")


class MontySession:
    """One interpreter in one worker process."""

    def __init__(self, monty: Any, limits: SandboxLimits) -> None:
        self._monty = monty
        self._limits = limits
        self._session: pydantic_monty.AsyncMontySession | None = None
        self._closing = AsyncExitStack()

    async def run(self, code: str) -> Execution:
        """Run code; see `SandboxSession.run`."""
        session = self._session or await self._start()
        streams = self._monty.CollectStreams(max_bytes=_FLOOD_BYTES)
        ending, shown, raised = Ending.TIMEOUT, "", ""
        with anyio.move_on_after(self._limits.seconds):
            try:
                value = await session.feed_run(code, print_callback=streams)
                ending, shown = Ending.COMPLETED, _shown(value)
            except self._monty.MontyCrashedError:
                ending = Ending.KILLED
            except self._monty.MontyError as error:
                ending, raised = Ending.COMPLETED, _displayed(error)
            finally:
                if ending is not Ending.COMPLETED:
                    await self.close()
        return self._execution(ending, streams.output, shown=shown, raised=raised)

    async def close(self) -> None:
        """End the worker process."""
        closing, self._closing = self._closing, AsyncExitStack()
        self._session = None
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await closing.aclose()

    async def _start(self) -> pydantic_monty.AsyncMontySession:
        limits = {"max_memory": min(self._limits.memory_bytes, _MAX_MEMORY)}
        try:
            with anyio.fail_after(_START_SECONDS):
                pool = await self._closing.enter_async_context(self._monty.AsyncMonty(max_processes=1))
                session: pydantic_monty.AsyncMontySession = pool.checkout(limits=limits)
                await self._closing.enter_async_context(session)
                self._session = session
                return session
        except (OSError, RuntimeError, self._monty.MontyError) as error:
            raise NotStartedError(str(error)) from error
        finally:
            if self._session is None:
                await self.close()

    def _execution(
        self, ending: Ending, printed: list[tuple[str, str]], *, shown: str, raised: str
    ) -> Execution:
        outputs = {"stdout": Output(self._limits.output_chars), "stderr": Output(self._limits.output_chars)}
        for stream, text in (*printed, ("stdout", shown), ("stderr", raised)):
            outputs[stream].add(text.encode("utf-8", "replace"))
        stdout, out_notes = outputs["stdout"].text()
        stderr, err_notes = outputs["stderr"].text()
        killed = ("it used too much of the machine",) if ending is Ending.KILLED else ()
        return Execution(ending=ending, stdout=stdout, stderr=stderr, notes=(*out_notes, *err_notes, *killed))


def _shown(value: object) -> str:
    if value is None:
        return ""
    try:
        return f"{value!r}\n"
    except (RecursionError, ValueError) as error:  # nested too deep, or too many digits
        return f"a value that cannot be shown ({type(error).__name__})\n"


def _displayed(error: Exception) -> str:
    display = getattr(error, "display", None)
    return f"{display() if display is not None else error}\n"
