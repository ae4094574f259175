"""The command tree. Each command's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.audit_commands import audit_app
from agentkit.cli.options import (
    DEFAULT_STORE,
    EMBEDDED_MODEL,
    EngineUrl,
    Imports,
    Instructions,
    Json,
    MaxTokens,
    Model,
    NamedSession,
    PolicyFile,
    StoreUrl,
    TokenizerName,
    Tools,
)
from agentkit.cli.policy_commands import policy_app
from agentkit.cli.probe_commands import probe_app
from agentkit.cli.sessions import sessions_app

app = typer.Typer(
    name="agentkit",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(policy_app, name="policy")
app.add_typer(audit_app, name="audit")
app.add_typer(probe_app, name="probe")
app.add_typer(sessions_app, name="sessions")

STAGES = "user_input, tool_description, tool_call, code, tool_result, memory, model_output"

Dialect = Annotated[
    str | None,
    typer.Option(
        "--dialect", "-d", metavar="NAME", help="hf-3.1, hf-3.2, meta or template; by default what fits."
    ),
]
ToolFormatName = Annotated[
    str | None,
    typer.Option(
        "--tool-format",
        metavar="NAME",
        help="The form of calls: json, function_tag, python_list or builtin; by default json.",
    ),
]
BuiltinTools = Annotated[
    str | None,
    typer.Option(
        "--builtin-tools",
        metavar="NAMES",
        help="brave_search, wolfram_alpha, code_interpreter, with commas.",
    ),
]
Date = Annotated[str | None, typer.Option("--date", metavar="TEXT", help="Today, where the prompt names it.")]
ToolsFile = Annotated[
    Path | None,
    typer.Option("--tools", metavar="FILE", help="JSON: a list of {name, description, parameters}."),
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    """Agents that run on your own machine, behind shields that cannot be bypassed.

    Start with: agentkit demo
    """
    if version:
        from agentkit import __version__

        typer.echo(f"agentkit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    return 0


@app.command()
def demo() -> int:
    """Show the guarded agent on the embedded model.

    Example: agentkit demo
    """
    from agentkit.cli.demo import run_demo

    return run_demo(EMBEDDED_MODEL)


@app.command()
def chat(
    model: Model = EMBEDDED_MODEL,
    engine_url: EngineUrl = None,
    tokenizer: TokenizerName = None,
    policy: PolicyFile = None,
    session: NamedSession = None,
    store: StoreUrl = DEFAULT_STORE,
    tool: Tools = None,
    instructions: Instructions = None,
    imports: Imports = None,
) -> int:
    """Chat in the terminal, with verdicts and cache hits.

    Without --session nothing is kept. Ctrl-C stops an answer, Ctrl-D ends the chat.

    Example: agentkit chat -s alice/42
    """
    from agentkit.cli.agent_options import AgentOptions
    from agentkit.cli.chat import run_chat

    options = AgentOptions(
        model=model,
        engine_url=engine_url,
        tokenizer=tokenizer,
        policy=policy,
        tools=tool or [],
        instructions=instructions,
        imports=imports or [],
    )
    return run_chat(options, session_id=session, store=store)


@app.command()
def run(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What to say; - reads it from stdin.", show_default=False)
    ],
    model: Model = EMBEDDED_MODEL,
    engine_url: EngineUrl = None,
    tokenizer: TokenizerName = None,
    policy: PolicyFile = None,
    tool: Tools = None,
    instructions: Instructions = None,
    max_tokens: MaxTokens = 512,
    session: NamedSession = None,
    store: StoreUrl = DEFAULT_STORE,
    imports: Imports = None,
    json: Json = False,
) -> int:
    """Run one turn. Exits 1 unless it completed.

    A call that needs approval is refused; with --session the turn waits for it.

    Example: agentkit run "Is Paris warm?" -t examples.weather:get_current_temperature
    """
    from agentkit.cli.agent_options import AgentOptions
    from agentkit.cli.run import run_once

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
    return run_once(prompt, options=options, session_id=session, store=store, as_json=json)


@app.command()
def scan(
    stage: Annotated[
        str, typer.Option("--stage", metavar="STAGE", help=f"Judge as one of: {STAGES}.", show_default=False)
    ],
    policy: PolicyFile = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='Read JSON lines with "text" (and "id"); judge each as it comes.')
    ] = False,
    language: Annotated[
        str | None, typer.Option("--language", metavar="NAME", help="The language, for stage code.")
    ] = None,
    imports: Imports = None,
) -> int:
    """Judge text from stdin: one JSON verdict a row. Exits 1 if any row was hit.

    Example: agentkit scan --stage user_input < question.txt
    """
    from agentkit.cli.scan import run_scan

    return run_scan(stage, policy=policy, jsonl=jsonl, language=language, imports=imports or [])


@app.command()
def prompt(
    messages: Annotated[
        Path,
        typer.Argument(
            metavar="MESSAGES", help='JSON: a list of {"role", "content"}; - is stdin.', show_default=False
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="By default the one that the dialect is for."),
    ] = None,
    dialect: Dialect = None,
    tools: ToolsFile = None,
    tool_format: ToolFormatName = None,
    builtin_tools: BuiltinTools = None,
    date: Date = None,
    tools_in: Annotated[
        str | None,
        typer.Option("--tools-in", metavar="PLACE", help="Describe tools in the message of: system, user."),
    ] = None,
    tool_results: Annotated[
        str | None,
        typer.Option("--tool-results", metavar="STYLE", help="Write results verbatim, or as json."),
    ] = None,
) -> int:
    """Print the exact text and ids that the model would see.

    Example: agentkit prompt messages.json --tools tools.json
    """
    from agentkit.cli.formats import PromptOptions, run_prompt

    options = PromptOptions(
        dialect=dialect,
        tool_format=tool_format,
        builtin_tools=builtin_tools,
        date=date,
        tools_in=tools_in,
        tool_results=tool_results,
    )
    return run_prompt(messages, model=model, tools=tools, options=options)


@app.command()
def parse(
    dialect: Dialect = None,
    tools: ToolsFile = None,
    tool_format: ToolFormatName = None,
    builtin_tools: BuiltinTools = None,
    date: Date = None,
) -> int:
    """Read raw model output from stdin and print what it means.

    Every form of calls is read, whatever the options of the prompt were; --tool-format is what hints ask for.
    Exits 1 if a call could not be read. Without --tools and --builtin-tools any name may be called.

    Example: agentkit parse --tools tools.json < output.txt
    """
    from agentkit.cli.formats import PromptOptions, run_parse

    options = PromptOptions(dialect=dialect, tool_format=tool_format, builtin_tools=builtin_tools, date=date)
    return run_parse(tools=tools, options=options)


@app.command()
def models(json: Json = False) -> int:
    """List the known models, and how to get them.

    Example: agentkit models
    """
    from agentkit.cli.models import run_models

    return run_models(as_json=json)


@app.command()
def doctor(
    model: Model = EMBEDDED_MODEL,
    engine_url: EngineUrl = None,
    tokenizer: TokenizerName = None,
    policy: PolicyFile = None,
    imports: Imports = None,
    json: Json = False,
) -> int:
    """Check machine, shields, model and versions.

    Exits 1 if an agent under this policy would be unsafe, or could not start.

    Example: agentkit doctor -p shields.yaml
    """
    from agentkit.cli.agent_options import model_or_engine
    from agentkit.cli.doctor import run_doctor

    wanted = model_or_engine(model, engine_url=engine_url, tokenizer=tokenizer)
    return run_doctor(wanted, policy=policy, imports=imports or [], as_json=json)
