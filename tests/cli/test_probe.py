"""`agentkit probe fit` and `eval`: a head from labelled lines, figures, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentkit.inference.probe_head import load_head
from tests.cli.driving import Cli
from tests.inference.tiny import build_tiny_checkpoint

FIGURES = [
    "positives", "negatives", "auc", "threshold", "recall", "false_positives", "recall_at_1_percent",
    "recall_at_5_percent",
]  # fmt: skip


@pytest.fixture
def data(folder: Path) -> Path:
    """Digits against letters, which even random weights tell apart; the tiny model is beside them."""
    build_tiny_checkpoint(folder / "tiny")
    rows = [
        {
            "text": " ".join(str(index * number % 97) for number in range(12))
            if index % 2
            else "fox dog " * (2 + index),
            "label": bool(index % 2),
            "group": f"g{index % 9}",
        }
        for index in range(60)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


FIT = ("probe", "fit", "rows.jsonl", "-o", "digits.safetensors", "-m", "./tiny", "--window", "16")


def test_a_head_is_fit_written_and_measured(cli: Cli, folder: Path, data: Path) -> None:
    outcome = cli(
        *FIT, "--layers", "1", "--roc", "roc.svg", "--known-bad", "1 2 3", "--known-good", "fox", "--json"
    )
    assert (outcome.code, outcome.err) == (0, "")
    report = outcome.json
    assert list(report) == ["head", "layers", *FIGURES]
    assert (report["positives"], report["negatives"]) == (30, 30)
    assert report["auc"] > 0.9
    head = load_head(folder / "digits.safetensors")
    assert (head.name, head.model, head.layers, head.window) == ("digits", "./tiny", (1,), 16)
    assert (head.known_bad, head.known_good) == ("1 2 3", "fox")
    assert (folder / "roc.svg").read_text().startswith("<svg")


def test_the_head_is_measured_on_other_texts(cli: Cli, folder: Path, data: Path) -> None:
    assert cli(*FIT).code == 0
    outcome = cli("probe", "eval", "./digits.safetensors", "rows.jsonl", "--roc", "again.svg", "--json")
    assert (outcome.code, list(outcome.json)) == (0, ["head", *FIGURES])
    assert outcome.json["auc"] > 0.9
    assert (folder / "again.svg").exists()


def test_for_people_the_figures_are_lines(cli: Cli, data: Path) -> None:
    outcome = cli(*FIT)
    assert outcome.code == 0
    lines = dict(
        line.split(maxsplit=1)
        for line in outcome.out.splitlines()
        if not line.startswith(("recall", "false"))
    )
    assert lines["head"] == "digits.safetensors"
    assert "false positives" in outcome.out
    assert "%" in outcome.out


def test_a_head_is_for_its_own_model(cli: Cli, folder: Path, data: Path) -> None:
    assert cli(*FIT).code == 0
    build_tiny_checkpoint(folder / "other", seed=1)
    outcome = cli("probe", "eval", "digits.safetensors", "rows.jsonl", "-m", "./other")
    assert outcome.code == 2
    assert "was fit on ./tiny" in outcome.err
    assert "./other is another model" in outcome.err


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[]", 'bad.jsonl:1 must be an object with a string "text" that is not empty'),
        ('{"text": "", "label": true}', 'a string "text" that is not empty'),
        ('{"text": "x"}', '"label" must be true or false, 1 or 0; name the field with --label'),
        ('{"text": "x", "label": "yes"}', '"label" must be true or false, 1 or 0'),
        (
            '{"text": "x", "label": true, "span": [3, 2]}',
            '"span" must be two places in the text, [start, end)',
        ),
        ('{"text": "x", "label": true, "span": "x"}', '"span" must be two places in the text, [start, end)'),
        ('{"text": "x", "label": true}', "1 examples have the label true; a fit needs 10 of each"),
        ("{", "bad.jsonl:1 is not JSON"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    cli: Cli, folder: Path, data: Path, row: str, message: str
) -> None:
    (folder / "bad.jsonl").write_text(row)
    outcome = cli("probe", "fit", "bad.jsonl", "-o", "x.safetensors", "-m", "./tiny", "--layers", "1")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (folder / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "x.bin"), "x.bin must end in .safetensors, as heads do"),
        (("--layers", "a"), "--layers must be numbers with commas, got 'a'"),
        (("--layers", "9"), "layers must name some of 0 to 2, got [9]"),
        (("--folds", "1"), "folds must be at least 2, got 1"),
        (("--false-positives", "0.7"), "false_positives must be in (0, 0.5], got 0.7"),
        (("--roc", "no/roc.svg"), "no/roc.svg cannot be written"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    cli: Cli, data: Path, options: tuple[str, ...], message: str
) -> None:
    outcome = cli(*FIT, *options)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_file_that_is_not_there_is_named(cli: Cli, data: Path) -> None:
    outcome = cli("probe", "eval", "injection", "row.jsonl")
    assert (outcome.code, outcome.err) == (
        2, "agentkit: there is no file row.jsonl; did you mean 'rows.jsonl'?\n",
    )  # fmt: skip
