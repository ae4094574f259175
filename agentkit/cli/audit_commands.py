"""The commands of `agentkit audit`. Each one's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.options import Imports, Json, JsonLines, PolicyFile

audit_app = typer.Typer(help="Check audit logs, and judge kept sessions again.", rich_markup_mode=None)


@audit_app.command("verify")
def audit_verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An audit log.", show_default=False)],
    last: Annotated[
        str | None,
        typer.Option("--last", metavar="DIGEST", help="A digest noted earlier, which must be in it."),
    ] = None,
    json: Json = False,
) -> int:
    """Say whether a file's chain is whole. Exits 1 if it was changed.

    Example: agentkit audit verify audit.jsonl
    """
    from agentkit.cli.audit import run_verify

    return run_verify(file, last=last, as_json=json)


@audit_app.command("replay")
def audit_replay(
    file: Annotated[
        Path, typer.Argument(metavar="EXPORT", help="An exported session; - is stdin.", show_default=False)
    ],
    policy: PolicyFile = None,
    old: Annotated[
        Path | None,
        typer.Option("--old", metavar="FILE", help="Compare with this policy, not with what was kept."),
    ] = None,
    imports: Imports = None,
    json: JsonLines = False,
) -> int:
    """Judge an exported session again. Exits 1 if the policy would change something.

    Example: agentkit audit replay alice-42.json -p shields-new.yaml
    """
    from agentkit.cli.audit import run_replay

    return run_replay(file, policy=policy, old=old, imports=imports or [], as_json=json)
