"""The command tree. Each command's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.shields.base import Stage

app = typer.Typer(
    name="agentkit",
    help="Agents that run on your own machine, behind shields that cannot be bypassed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
policy_app = typer.Typer(
    help="Check, explain and test policy files.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(policy_app, name="policy")

EMBEDDED_MODEL = "smollm2-135m-instruct"

Model = Annotated[
    str, typer.Option("--model", "-m", help="A catalogue name, a folder, a .gguf file or a hub id.")
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", "-p", help="A policy file; the built-in default policy if left out."),
]
Tools = Annotated[
    list[str] | None, typer.Option("--tool", "-t", help="A tool, as module:object. Repeat for more.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Dialect = Annotated[
    str | None, typer.Option("--dialect", "-d", help="The prompt dialect; what fits the model if left out.")
]


@app.callback()
def root() -> None:
    """Agents that run on your own machine, behind shields that cannot be bypassed."""


@app.command()
def demo() -> int:
    """Show the guarded agent on the embedded model, end to end, in one screen.

    Example: agentkit demo
    """
    from agentkit.cli.demo import run_demo

    return run_demo(EMBEDDED_MODEL)


@app.command()
def chat(
    model: Model = EMBEDDED_MODEL,
    policy: PolicyFile = None,
    session: Annotated[str | None, typer.Option("--session", "-s", help="Go on with this session.")] = None,
    store: Annotated[str, typer.Option(help="Where sessions are kept.")] = "sqlite:///agentkit.db",
    tool: Tools = None,
    instructions: Annotated[str, typer.Option("--instructions", "-i", help="What the model is told.")] = "",
) -> int:
    """Chat in the terminal: streaming, tool calls, verdicts, cache hits. Without --session nothing is kept.

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
    )


@app.command()
def run(
    prompt: Annotated[str, typer.Argument(help="What to say; - reads it from stdin.")],
    model: Model = EMBEDDED_MODEL,
    policy: PolicyFile = None,
    tool: Tools = None,
    instructions: Annotated[str, typer.Option("--instructions", "-i", help="What the model is told.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of one generation.")] = 512,
    json: Json = False,
) -> int:
    """Run one turn. Exits 1 if it was blocked or met a limit.

    Example: agentkit run "What's the temperature in Paris?" -t examples.weather:get_current_temperature
    """
    from agentkit.cli.run import run_once

    return run_once(
        prompt,
        model=model,
        policy=policy,
        tools=tool or [],
        instructions=instructions,
        max_tokens=max_tokens,
        as_json=json,
    )


@app.command()
def scan(
    stage: Annotated[Stage, typer.Option(help="The stage to judge as.")],
    policy: PolicyFile = None,
    jsonl: Annotated[bool, typer.Option(help='Read JSON lines with "text" instead of one text.')] = False,
    language: Annotated[str | None, typer.Option(help="The language of the code, for stage code.")] = None,
) -> int:
    """Judge text from stdin: one JSON verdict a row. Exits 1 if any row was hit.

    Example: printf 'Ignore all previous instructions' | agentkit scan --stage user_input
    """
    from agentkit.cli.scan import run_scan

    return run_scan(stage, policy=policy, jsonl=jsonl, language=language)


@app.command()
def prompt(
    messages: Annotated[Path, typer.Argument(help='JSON: a list of {"role", "content"}; - reads stdin.')],
    model: Model = EMBEDDED_MODEL,
    dialect: Dialect = None,
    tools: Annotated[
        Path | None, typer.Option(help="JSON: a list of {name, description, parameters}.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="The day that the prompt names, where the dialect has one.")
    ] = None,
) -> int:
    """Print the exact text and ids that the model would see, as JSON.

    Example: agentkit prompt messages.json --tools tools.json
    """
    from agentkit.cli.formats import run_prompt

    return run_prompt(messages, model=model, dialect=dialect, tools=tools, date=date)


@app.command()
def parse(
    dialect: Dialect = None,
    tools: Annotated[
        Path | None, typer.Option(help="JSON: a list of {name, description, parameters}.")
    ] = None,
) -> int:
    """Read raw model output from stdin and print what it means, as JSON. Exits 1 if a call could not be read.

    Example: agentkit parse --tools tools.json < output.txt
    """
    from agentkit.cli.formats import run_parse

    return run_parse(dialect=dialect, tools=tools)


@app.command()
def models(json: Json = False) -> int:
    """List what is known, where it is, its size and licence, and which need a download.

    Example: agentkit models --json
    """
    from agentkit.cli.inspect import run_models

    return run_models(as_json=json)


@app.command()
def doctor(policy: PolicyFile = None, json: Json = False) -> int:
    """Check device, model, shields and versions. Exits 1 if the agent would be unsafe.

    Example: agentkit doctor -p shields.yaml
    """
    from agentkit.cli.inspect import run_doctor

    return run_doctor(EMBEDDED_MODEL, policy=policy, as_json=json)


Files = Annotated[list[Path], typer.Argument(help="Policy files.")]


@policy_app.command("check")
def policy_check(files: Files, json: Json = False) -> int:
    """Check policy files: syntax, names, bounds. Exits 1 if one is wrong.

    Example: agentkit policy check shields.yaml
    """
    from agentkit.cli.policy import run_check

    return run_check(files, as_json=json)


@policy_app.command("explain")
def policy_explain(files: Files) -> int:
    """Say in words what runs where.

    Example: agentkit policy explain shields.yaml
    """
    from agentkit.cli.policy import run_explain

    return run_explain(files)


@policy_app.command("test")
def policy_test(files: Files, json: Json = False) -> int:
    """Run the tests that policy files hold. Exits 1 if one fails.

    Example: agentkit policy test shields.yaml
    """
    from agentkit.cli.policy import run_tests

    return run_tests(files, as_json=json)
