"""`agentkit probe fit` and `eval`: labelled JSON lines -> a head, and how good it is on texts it had not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from rich.console import Console
from rich.progress import Progress

from agentkit.agent.runtime import EngineRoom
from agentkit.cli.exit_codes import EXIT_OK
from agentkit.cli.output import counted, write_json, write_line
from agentkit.cli.probe_rows import read_labelled
from agentkit.errors import ConfigurationError
from agentkit.inference.probe_head import load_head, save_head
from agentkit.inference.probe_reader import readable, reader_for
from agentkit.shields.probe import head_path
from agentkit.shields.probe_fit import FitSettings, Floats
from agentkit.shields.probe_quality import Share, auc, flagged, recall_within, roc_svg
from agentkit.shields.probe_training import HeadSettings, LabelledText, Training, read_examples, train_head


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """What the command line says about a fit."""

    data: Sequence[Path]
    output: Path
    model: str
    name: str
    label: str
    group: str
    layers: str | None
    window: int
    false_positives: float
    folds: int
    known_bad: str
    known_good: str


def run_probe_fit(options: FitOptions, *, roc: Path | None, as_json: bool) -> int:
    """Fit a head, write it, and say how good it is."""
    if options.output.suffix != ".safetensors":
        raise ConfigurationError(f"{options.output} must end in .safetensors, as heads do")
    settings = HeadSettings(
        name=options.name,
        model=options.model,
        layers=_layers(options.layers),
        window=options.window,
        known_bad=options.known_bad,
        known_good=options.known_good,
        fit=FitSettings(folds=options.folds, false_positives=options.false_positives),
    )
    texts = read_labelled(options.data, label=options.label, group=options.group)
    training = anyio.run(_fit, settings, texts)
    save_head(training.head, options.output)
    labels = np.array([one.label for one in texts])
    report = _quality(training.fitted.held_out, labels, training.head.threshold)
    _draw(roc, training.fitted.held_out, labels, title=options.name)
    _show({"head": str(options.output), "layers": list(training.head.layers), **report}, as_json=as_json)
    return EXIT_OK


def run_probe_eval(
    head: str, data: Sequence[Path], *, model: str | None, label: str, roc: Path | None, as_json: bool
) -> int:
    """Judge labelled texts with a head, and say how good it is."""
    texts = read_labelled(data, label=label, group=None)
    path = head_path(head)
    threshold, scores = anyio.run(_eval, path, model, texts)
    labels = np.array([one.label for one in texts])
    report = _quality(scores, labels, threshold)
    _draw(roc, scores, labels, title=path.stem)
    _show({"head": str(path), **report}, as_json=as_json)
    return EXIT_OK


async def _fit(settings: HeadSettings, texts: Sequence[LabelledText]) -> Training:
    async with AsyncExitStack() as closing:
        engine = await EngineRoom(closing).engine(settings.model)
        report = closing.enter_context(_reading(len(texts)))
        return await train_head(readable(engine, settings.model), texts, settings, report=report)


async def _eval(path: Path, model: str | None, texts: Sequence[LabelledText]) -> tuple[float, Floats]:
    """Return the head's threshold, and the score of each text."""
    head = load_head(path)
    reference = model or head.model
    async with AsyncExitStack() as closing:
        engine = await EngineRoom(closing).engine(reference)
        reader_for(head, engine, reference)
        report = closing.enter_context(_reading(len(texts)))
        examples = await read_examples(
            readable(engine, reference), texts, head.layers, window=head.window, report=report
        )
    return head.threshold, np.array([head.probabilities(example.means).max() for example in examples])


@contextmanager
def _reading(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while texts are read, where somebody watches."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, redirect_stdout=False) as progress:
        bar = progress.add_task(f"reading {counted(total, 'text')}", total=total)
        yield lambda read: progress.update(bar, completed=read)


def _quality(scores: Floats, labels: np.ndarray, threshold: float) -> dict[str, Any]:
    """Return the figures: on held-out texts after a fit, on all of them otherwise."""
    positives, negatives = scores[labels], scores[~labels]
    if not len(positives) or not len(negatives):
        raise ConfigurationError("the texts all have one label; figures need both")
    return {
        "positives": len(positives),
        "negatives": len(negatives),
        "auc": round(auc(positives, negatives), 4),
        "threshold": round(threshold, 4),
        "recall": _as_json(flagged(positives, threshold)),
        "false_positives": _as_json(flagged(negatives, threshold)),
        "recall_at_1_percent": _as_json(recall_within(0.01, positives, negatives)),
        "recall_at_5_percent": _as_json(recall_within(0.05, positives, negatives)),
    }


def _as_json(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"hits": share.hits, "total": share.total, "low": round(low, 4), "high": round(high, 4)}


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(report)
        return
    for key, value in report.items():
        if isinstance(value, dict):
            value = f"{value['hits']} of {value['total']}, {Share(hits=value['hits'], total=value['total'])}"
        write_line(f"{key.replace('_', ' '):20} {value}")


def _draw(path: Path | None, scores: Floats, labels: np.ndarray, *, title: str) -> None:
    if path is None:
        return
    try:
        path.write_text(roc_svg(scores[labels], scores[~labels], title=title), encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}") from exc


def _layers(written: str | None) -> tuple[int, ...] | None:
    if written is None:
        return None
    try:
        return tuple(int(one) for one in written.split(","))
    except ValueError:
        raise ConfigurationError(f"--layers must be numbers with commas, got {written!r}") from None
