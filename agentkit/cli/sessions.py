"""The commands of `agentkit sessions`. Each one's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.options import (
    DEFAULT_STORE,
    EngineUrl,
    Imports,
    Instructions,
    Json,
    JsonLines,
    KVFolder,
    MaxTokens,
    PolicyFile,
    Prefix,
    SessionId,
    SessionModel,
    StoreUrl,
    TokenizerName,
    Tools,
)

sessions_app = typer.Typer(
    help="Look into a store, and go on with what was interrupted or waits.", rich_markup_mode=None
)

Call = Annotated[
    str, typer.Argument(metavar="CALL", help="A call that waits; `show` names it.", show_default=False)
]


@sessions_app.command("list")
def list_(store: StoreUrl = DEFAULT_STORE, prefix: Prefix = "", json: JsonLines = False) -> int:
    """List the sessions of a store.

    Example: agentkit sessions list --prefix alice/
    """
    from agentkit.cli.sessions_show import run_list

    return run_list(store, prefix=prefix, as_json=json)


@sessions_app.command()
def show(session: SessionId, store: StoreUrl = DEFAULT_STORE, json: Json = False) -> int:
    """Show a session's messages, and the calls that wait.

    Example: agentkit sessions show alice/42
    """
    from agentkit.cli.sessions_show import run_show

    return run_show(session, store, as_json=json)


@sessions_app.command()
def resume(
    session: SessionId,
    store: StoreUrl = DEFAULT_STORE,
    model: SessionModel = None,
    engine_url: EngineUrl = None,
    tokenizer: TokenizerName = None,
    policy: PolicyFile = None,
    tool: Tools = None,
    instructions: Instructions = None,
    max_tokens: MaxTokens = 512,
    imports: Imports = None,
    json: Json = False,
) -> int:
    """Go on with an unfinished turn. Exits 1 unless it completed.

    A call that nobody decided about goes on waiting: `approve` or `deny` it.

    Example: agentkit sessions resume alice/42 -t mails:send
    """
    from agentkit.cli.agent_options import AgentOptions
    from agentkit.cli.sessions_resume import run_resume

    options = AgentOptions(
        model=model,
        engine_url=engine_url,
        tokenizer=tokenizer,
        policy=policy,
        tools=tool or [],
        instructions=instructions,
        imports=imports or [],
        max_tokens=max_tokens,
    )
    return run_resume(session, store, options=options, as_json=json)


@sessions_app.command()
def approve(session: SessionId, call: Call, store: StoreUrl = DEFAULT_STORE) -> int:
    """Let a call run that waits for a person.

    Example: agentkit sessions approve alice/42 call_0f3a9b21c47d
    """
    from agentkit.cli.sessions_change import run_approve

    return run_approve(session, call, store)


@sessions_app.command()
def deny(session: SessionId, call: Call, store: StoreUrl = DEFAULT_STORE) -> int:
    """Refuse a call that waits for a person.

    Example: agentkit sessions deny alice/42 call_0f3a9b21c47d
    """
    from agentkit.cli.sessions_change import run_deny

    return run_deny(session, call, store)


@sessions_app.command()
def abandon(
    session: SessionId,
    store: StoreUrl = DEFAULT_STORE,
    model: SessionModel = None,
    engine_url: EngineUrl = None,
    tokenizer: TokenizerName = None,
    policy: PolicyFile = None,
    tool: Tools = None,
    instructions: Instructions = None,
    imports: Imports = None,
) -> int:
    """End an unfinished turn after its last finished step.

    Example: agentkit sessions abandon alice/42
    """
    from agentkit.cli.agent_options import AgentOptions
    from agentkit.cli.sessions_resume import run_abandon

    options = AgentOptions(
        model=model,
        engine_url=engine_url,
        tokenizer=tokenizer,
        policy=policy,
        tools=tool or [],
        instructions=instructions,
        imports=imports or [],
    )
    return run_abandon(session, store, options=options)


@sessions_app.command()
def fork(
    session: SessionId,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The id of the new session.", show_default=False)],
    turn: Annotated[
        int | None, typer.Option("--turn", metavar="N", min=0, help="Only up to the end of turn N.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
) -> int:
    """Begin a new session with the turns of another.

    Example: agentkit sessions fork alice/42 alice/42-b --turn 3
    """
    from agentkit.cli.sessions_change import run_fork

    return run_fork(session, new, store, turn=turn)


@sessions_app.command()
def rollback(
    session: SessionId,
    turn: Annotated[
        int,
        typer.Argument(
            metavar="TURN", min=0, help="The last turn to keep; 0 keeps none.", show_default=False
        ),
    ],
    store: StoreUrl = DEFAULT_STORE,
    kv_folder: KVFolder = None,
) -> int:
    """Forget the turns after one, an unfinished one too.

    Example: agentkit sessions rollback alice/42 3
    """
    from agentkit.cli.sessions_change import run_rollback

    return run_rollback(session, turn, store, kv_folder=kv_folder)


@sessions_app.command()
def export(
    session: SessionId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; - is stdout.")] = Path("-"),
    store: StoreUrl = DEFAULT_STORE,
) -> int:
    """Write a session as JSON; `import` reads it.

    Example: agentkit sessions export alice/42 alice-42.json
    """
    from agentkit.cli.sessions_files import run_export

    return run_export(session, file, store)


@sessions_app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An exported session; - is stdin.", show_default=False)
    ],
    new: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its id here; by default its own.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    model: SessionModel = None,
    engine_url: EngineUrl = None,
    tokenizer: TokenizerName = None,
    policy: PolicyFile = None,
    tool: Tools = None,
    instructions: Instructions = None,
    imports: Imports = None,
) -> int:
    """Keep an exported session. Exits 1 if shields block it.

    Example: agentkit sessions import alice-42.json --id bob/1
    """
    from agentkit.cli.agent_options import AgentOptions
    from agentkit.cli.sessions_files import run_import

    options = AgentOptions(
        model=model,
        engine_url=engine_url,
        tokenizer=tokenizer,
        policy=policy,
        tools=tool or [],
        instructions=instructions,
        imports=imports or [],
    )
    return run_import(file, store, session_id=new, options=options)


@sessions_app.command()
def delete(
    session: SessionId,
    store: StoreUrl = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    kv_folder: KVFolder = None,
) -> int:
    """Delete a session for good. Exits 1 if the answer is no.

    Example: agentkit sessions delete alice/42
    """
    from agentkit.cli.sessions_change import run_delete

    return run_delete(session, store, yes=yes, kv_folder=kv_folder)


@sessions_app.command()
def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Unused for so long: 12h, 30d, 8w.", show_default=False
        ),
    ],
    prefix: Prefix = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would go.")] = False,
    store: StoreUrl = DEFAULT_STORE,
    kv_folder: KVFolder = None,
) -> int:
    """Delete old sessions; an unfinished one stays.

    Example: agentkit sessions prune --older-than 30d --dry-run
    """
    from agentkit.cli.sessions_change import run_prune

    return run_prune(store, older_than=older_than, prefix=prefix, dry_run=dry_run, kv_folder=kv_folder)


@sessions_app.command()
def audit(
    tenant: Annotated[
        str,
        typer.Argument(
            metavar="TENANT", help="What stands before the last / of its ids.", show_default=False
        ),
    ],
    store: StoreUrl = DEFAULT_STORE,
    verify: Annotated[bool, typer.Option("--verify", help="Only say whether the chain is whole.")] = False,
    json: JsonLines = False,
) -> int:
    """Print a tenant's audit log. Exits 1 if it was changed.

    Example: agentkit sessions audit alice --verify
    """
    from agentkit.cli.sessions_audit import run_audit, run_verify

    return (run_verify if verify else run_audit)(tenant, store, as_json=json)


@sessions_app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", show_default=False)],
    store: StoreUrl = DEFAULT_STORE,
) -> int:
    """Copy a SQLite store while it is in use.

    Example: agentkit sessions backup agentkit-monday.db
    """
    from agentkit.cli.sessions_files import run_backup

    return run_backup(file, store)
