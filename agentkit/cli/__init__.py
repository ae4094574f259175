"""`agentkit …`: thin, over the public API. Commands live one file each; this one runs them and words their errors."""

from __future__ import annotations

import sys

import click
import typer

from agentkit.errors import AgentKitError

EXIT_OK = 0
EXIT_FINDING = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 on success, 1 on a finding, 2 on wrong usage, 130 on Ctrl-C."""
    from agentkit.cli.app import app

    try:
        code = app(args=arguments, standalone_mode=False, prog_name="agentkit")
    except click.exceptions.Abort:
        _fail("interrupted; nothing that was stored is lost", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        _fail("interrupted; nothing that was stored is lost", EXIT_INTERRUPTED)
    except click.ClickException as error:
        _fail(_usage(error), EXIT_USAGE)
    except AgentKitError as error:
        _fail(str(error), EXIT_USAGE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_OK)
    sys.exit(code if isinstance(code, int) else EXIT_OK)


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{message} See `{context.command_path} --help`." if context is not None else message


def _fail(message: str, code: int) -> None:
    typer.echo(f"agentkit: {message}", err=True)
    sys.exit(code)
