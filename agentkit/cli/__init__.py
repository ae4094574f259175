"""`agentkit …`: thin, over the public API. Commands live one file each; this one runs them and words their errors."""

from __future__ import annotations

import os
import re
import sys
from typing import Final, NoReturn

import typer

from agentkit.cli.exit_codes import EXIT_CLOSED_OUTPUT, EXIT_FINDING, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from agentkit.errors import AgentKitError, BlockedError

# Typer's sentences, and pydantic's in them, as ours.
_WORDINGS: Final = (
    (r"\. Did you mean ", "; did you mean "),
    (r" \(Possible options: ([^,)]+).*\)", r"; did you mean '\1'?"),
    (r": Input should be ([^,]+).*", r": it must be \1"),
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit.

    0 on success, 1 on a finding, 2 on wrong usage or bad input, 130 on Ctrl-C, 141 if nobody reads the output.
    """
    from agentkit.cli.app import app

    try:
        code = app(args=arguments, standalone_mode=False, prog_name="agentkit")
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except typer.TyperException as error:
        _fail(_usage(error), EXIT_USAGE)
    except BlockedError as error:
        _fail(str(error), EXIT_FINDING)
    except AgentKitError as error:
        _fail(str(error), EXIT_USAGE)
    except OSError as error:
        # Files are read behind errors of our own: what is left is an output that cannot be written.
        _drop_output()
        _fail(f"cannot write the output: {error.strerror}", EXIT_USAGE)
    except (SystemExit, BaseExceptionGroup) as error:
        _leave_closed_output(error)
    if code == EXIT_INTERRUPTED:
        _fail("interrupted", EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else EXIT_OK)


def _usage(error: typer.TyperException) -> str:
    """Return what is wrong with the arguments as one line, with where to read on."""
    message = " ".join(error.format_message().split()).rstrip(".")
    for typers, ours in _WORDINGS:
        message = re.sub(typers, ours, message)
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message}{' See' if message.endswith('?') else '; see'} `{context.command_path} --help`"


def _leave_closed_output(error: SystemExit | BaseExceptionGroup[BaseException]) -> NoReturn:
    """Exit silently if typer or rich ended the command because nobody reads its output any more."""
    if isinstance(error, BaseExceptionGroup) and error.subgroup((SystemExit, BrokenPipeError)) is None:
        raise error
    _drop_output()
    sys.exit(EXIT_CLOSED_OUTPUT)


def _drop_output() -> None:
    """Send what is still buffered nowhere, or the interpreter would fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"agentkit: {' '.join(message.split())}", err=True)
    sys.exit(code)
