"""The commands of `agentkit policy`. Each one's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.options import Imports, JsonLines

policy_app = typer.Typer(help="Check, explain, test, compare and sign policy files.", rich_markup_mode=None)

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Policy files.", show_default=False)]


@policy_app.command("check")
def policy_check(files: Files, imports: Imports = None, json: JsonLines = False) -> int:
    """Check syntax, names and bounds. Exits 1 if a file is wrong.

    Example: agentkit policy check shields.yaml
    """
    from agentkit.cli.policy import run_check

    return run_check(files, imports=imports or [], as_json=json)


@policy_app.command("explain")
def policy_explain(files: Files, imports: Imports = None) -> int:
    """Say in words what is judged where, and what follows.

    Example: agentkit policy explain shields.yaml
    """
    from agentkit.cli.policy import run_explain

    return run_explain(files, imports=imports or [])


@policy_app.command("test")
def policy_test(files: Files, imports: Imports = None, json: JsonLines = False) -> int:
    """Run the tests that the files hold. Exits 1 if one fails.

    Example: agentkit policy test shields.yaml
    """
    from agentkit.cli.policy import run_tests

    return run_tests(files, imports=imports or [], as_json=json)


@policy_app.command("diff")
def policy_diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A policy file.", show_default=False)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another one.", show_default=False)],
    imports: Imports = None,
    json: JsonLines = False,
) -> int:
    """Say what gets looser or stricter. Exits 1 if something is looser, or nobody can tell.

    Example: agentkit policy diff shields.yaml shields-new.yaml
    """
    from agentkit.cli.policy import run_diff

    return run_diff(old, new, imports=imports or [], as_json=json)


@policy_app.command("keygen")
def policy_keygen(
    name: Annotated[
        Path, typer.Argument(metavar="NAME", help="Makes NAME.key and NAME.pub.", show_default=False)
    ],
) -> int:
    """Make an Ed25519 key pair to sign policies with.

    Example: agentkit policy keygen security-team
    """
    from agentkit.cli.policy_signing import run_keygen

    return run_keygen(name)


@policy_app.command("sign")
def policy_sign(
    files: Files,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key.", show_default=False)],
    imports: Imports = None,
) -> int:
    """Sign files as they are: FILE.sig says so. A wrong policy is not signed.

    Example: agentkit policy sign shields.yaml --key security-team.key
    """
    from agentkit.cli.policy_signing import run_sign

    return run_sign(files, key=key, imports=imports or [])


@policy_app.command("verify")
def policy_verify(
    files: Files,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The public key.", show_default=False)],
    imports: Imports = None,
) -> int:
    """Check signatures, also of what the files extend. Exits 1 if one is missing or wrong.

    Example: agentkit policy verify shields.yaml --key security-team.pub
    """
    from agentkit.cli.policy_signing import run_verify

    return run_verify(files, key=key, imports=imports or [])
