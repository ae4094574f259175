"""The command tree. Each command's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="agentkit",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
policy_app = typer.Typer(help="Check, explain and test policy files.", rich_markup_mode=None)
app.add_typer(policy_app, name="policy")

EMBEDDED_MODEL = "smollm2-135m-instruct"
STAGES = "user_input, tool_description, tool_call, code, tool_result, memory, model_output"

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="A catalogue name, a folder, a .gguf file or a hub id."
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", "-p", metavar="FILE", help="A policy file; without one the default policy."),
]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Import a module that registers shields. Repeatable."),
]
Tools = Annotated[
    list[str] | None,
    typer.Option("--tool", "-t", metavar="MODULE:OBJECT", help="Offer a tool. Repeatable."),
]
Instructions = Annotated[
    str, typer.Option("--instructions", "-i", metavar="TEXT", help="What the model is told first.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Dialect = Annotated[
    str | None,
    typer.Option("--dialect", "-d", metavar="NAME", help="hf-3.1 or template; by default what fits."),
]
ToolsFile = Annotated[
    Path | None,
    typer.Option("--tools", metavar="FILE", help="JSON: a list of {name, description, parameters}."),
]
Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Policy files.", show_default=False)]


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
    policy: PolicyFile = None,
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="ID", help="Keep, and go on with, this session.")
    ] = None,
    store: Annotated[
        str, typer.Option("--store", metavar="URL", help="Where a named session is kept.")
    ] = "sqlite:///agentkit.db",
    tool: Tools = None,
    instructions: Instructions = "",
    imports: Imports = None,
) -> int:
    """Chat in the terminal: streaming, tool calls, verdicts, cache hits.

    Without --session nothing is kept. Ctrl-C stops an answer, Ctrl-D ends the chat.

    Example: agentkit chat -s alice/42
    """
    from agentkit.cli.chat import run_chat

    return run_chat(
        model=model,
        policy=policy,
        session_id=session,
        store=store,
        tools=tool or [],
        instructions=instructions,
        imports=imports or [],
    )


@app.command()
def run(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What to say; - reads it from stdin.", show_default=False)
    ],
    model: Model = EMBEDDED_MODEL,
    policy: PolicyFile = None,
    tool: Tools = None,
    instructions: Instructions = "",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="The most tokens of one generation.")
    ] = 512,
    imports: Imports = None,
    json: Json = False,
) -> int:
    """Run one turn. Exits 1 if it was blocked or met a limit.

    Example: agentkit run "Is Paris warm?" -t examples.weather:get_current_temperature
    """
    from agentkit.cli.run import run_once

    return run_once(
        prompt,
        model=model,
        policy=policy,
        tools=tool or [],
        instructions=instructions,
        max_tokens=max_tokens,
        imports=imports or [],
        as_json=json,
    )


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
    model: Model = EMBEDDED_MODEL,
    dialect: Dialect = None,
    tools: ToolsFile = None,
    builtin_tools: Annotated[
        str | None,
        typer.Option(
            "--builtin-tools",
            metavar="NAMES",
            help="brave_search, wolfram_alpha, code_interpreter, with commas; for hf-3.1.",
        ),
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="TEXT", help="Today, where the prompt names it.")
    ] = None,
) -> int:
    """Print the exact text and ids that the model would see.

    Example: agentkit prompt messages.json --tools tools.json
    """
    from agentkit.cli.formats import run_prompt

    return run_prompt(
        messages, model=model, dialect=dialect, tools=tools, builtin_tools=builtin_tools, date=date
    )


@app.command()
def parse(dialect: Dialect = None, tools: ToolsFile = None) -> int:
    """Read raw model output from stdin and print what it means.

    Exits 1 if a call could not be read. Without --tools any name may be called.

    Example: agentkit parse --tools tools.json < output.txt
    """
    from agentkit.cli.formats import run_parse

    return run_parse(dialect=dialect, tools=tools)


@app.command()
def models(json: Json = False) -> int:
    """List the known models, and how to get them.

    Example: agentkit models
    """
    from agentkit.cli.models import run_models

    return run_models(as_json=json)


@app.command()
def doctor(policy: PolicyFile = None, imports: Imports = None, json: Json = False) -> int:
    """Check machine, shields, model and versions.

    Exits 1 if an agent under this policy would be unsafe, or could not start.

    Example: agentkit doctor -p shields.yaml
    """
    from agentkit.cli.doctor import run_doctor

    return run_doctor(EMBEDDED_MODEL, policy=policy, imports=imports or [], as_json=json)


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
