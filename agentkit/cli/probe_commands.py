"""The commands of `agentkit probe`. Each one's module is imported when it runs, so `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.options import EMBEDDED_MODEL, Json, Model

probe_app = typer.Typer(
    help="Fit and measure probes: linear heads on a model's hidden states.", rich_markup_mode=None
)

Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA", help='JSON lines with "text", a label and perhaps a group.', show_default=False
    ),
]
LabelField = Annotated[
    str, typer.Option("--label", metavar="FIELD", help="Where a row says true or false, 1 or 0.")
]
GroupField = Annotated[
    str, typer.Option("--group", metavar="FIELD", help="Rows alike in this field are held out together.")
]
Roc = Annotated[Path | None, typer.Option("--roc", metavar="FILE", help="Draw the ROC curve, as SVG.")]


@probe_app.command("fit")
def probe_fit(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The head: a .safetensors file.")
    ],
    model: Model = EMBEDDED_MODEL,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What a hit is called; by default the file's name."),
    ] = None,
    label: LabelField = "label",
    group: GroupField = "group",
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers", metavar="N,N", help="Read these together; by default the best single one of four."
        ),
    ] = None,
    window: Annotated[int, typer.Option("--window", metavar="TOKENS", min=8, max=4096)] = 64,
    false_positives: Annotated[
        float,
        typer.Option(
            "--false-positives", metavar="SHARE", help="Of the held-out negatives, flag at most this share."
        ),
    ] = 0.01,
    folds: Annotated[int, typer.Option("--folds", metavar="N", help="Of the cross-validation.")] = 5,
    known_bad: Annotated[
        str,
        typer.Option(
            "--known-bad", metavar="TEXT", help="Kept in the head: a text it must flag, or not start."
        ),
    ] = "",
    known_good: Annotated[
        str,
        typer.Option("--known-good", metavar="TEXT", help="Kept in the head: a text that it must not flag."),
    ] = "",
    roc: Roc = None,
    json: Json = False,
) -> int:
    """Fit a head on labelled texts, and say how good it is on those that folds held out.

    Example: agentkit probe fit spam.jsonl -o spam.safetensors --roc spam.svg
    """
    from agentkit.cli.probe import FitOptions, run_probe_fit

    options = FitOptions(
        data=data,
        output=output,
        model=model,
        name=name or output.stem,
        label=label,
        group=group,
        layers=layers,
        window=window,
        false_positives=false_positives,
        folds=folds,
        known_bad=known_bad,
        known_good=known_good,
    )
    return run_probe_fit(options, roc=roc, as_json=json)


@probe_app.command("eval")
def probe_eval(
    head: Annotated[
        str,
        typer.Argument(metavar="HEAD", help="A .safetensors file, or a head that ships.", show_default=False),
    ],
    data: Data,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="By default the one the head names.")
    ] = None,
    label: LabelField = "label",
    roc: Roc = None,
    json: Json = False,
) -> int:
    """Say how good a head is on labelled texts that it was not fit on.

    Example: agentkit probe eval injection attacks.jsonl --label malicious
    """
    from agentkit.cli.probe import run_probe_eval

    return run_probe_eval(head, data, model=model, label=label, roc=roc, as_json=json)
