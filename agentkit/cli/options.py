"""The options that several commands share, as typer reads them. Loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

EMBEDDED_MODEL: Final = "smollm2-135m-instruct"
DEFAULT_STORE: Final = "sqlite:///agentkit.db"

_MODEL_HELP: Final = "A catalogue name, a folder, a .gguf file or a hub id."

Model = Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help=_MODEL_HELP)]
SessionModel = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help=f"{_MODEL_HELP} By default the session's."),
]
EngineUrl = Annotated[
    str | None,
    typer.Option(
        "--engine-url",
        metavar="URL",
        envvar="AGENTKIT_ENGINE_URL",
        help="A server that runs the model, such as vLLM; --model is then its name there.",
    ),
]
TokenizerName = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="MODEL",
        help="The tokenizer of a model on a server: a name, a folder or a hub id. By default --model.",
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
    str | None, typer.Option("--instructions", "-i", metavar="TEXT", help="What the model is told first.")
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=1, help="The most tokens of one generation.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
StoreUrl = Annotated[
    str, typer.Option("--store", metavar="URL", envvar="AGENTKIT_STORE", help="Where sessions are kept.")
]
SessionId = Annotated[
    str, typer.Argument(metavar="ID", help="A session, by custom tenant/session.", show_default=False)
]
NamedSession = Annotated[
    str | None, typer.Option("--session", "-s", metavar="ID", help="Keep, and go on with, this session.")
]
Prefix = Annotated[str, typer.Option("--prefix", metavar="P", help="Only sessions whose id begins so.")]
KVFolder = Annotated[
    Path | None,
    typer.Option(
        "--kv-folder",
        metavar="DIR",
        envvar="AGENTKIT_KV",
        help="Where agents keep KV files: theirs goes too.",
    ),
]
