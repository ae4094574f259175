"""From labelled texts to a probe's head: reads them with a model, chooses layers, fits. Knows no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import numpy as np

from agentkit.errors import ConfigurationError, InferenceError
from agentkit.inference.base import Priority
from agentkit.shields.probe_fit import Example, FitSettings, Fitted, fit_probe
from agentkit.shields.probe_quality import auc

if TYPE_CHECKING:
    from agentkit.inference.probe_head import ProbeHead
    from agentkit.inference.probe_reader import ReadableEngine

WINDOW: Final = 64
# Texts that are read at once: short ones share a step of the engine.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """A text, whether it has what is looked for, and what it has in common with some others.

    `span` says where that is, as characters `[start, end)`, where it is not the whole text; `weight` how much the text
    counts in a fit.
    """

    text: str
    label: bool
    group: str | None = None
    span: tuple[int, int] | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """What a head is called and made of.

    `layers` are read together; None tries some single ones and takes the best. `model` is the reference of the engine.
    """

    name: str
    model: str
    layers: tuple[int, ...] | None = None
    window: int = WINDOW
    known_bad: str = ""
    known_good: str = ""
    fit: FitSettings = field(default_factory=FitSettings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A head, and what its fit says of the texts that folds held out, in the order of the texts."""

    head: ProbeHead
    fitted: Fitted


async def train_head(
    engine: ReadableEngine,
    texts: Sequence[LabelledText],
    settings: HeadSettings,
    *,
    report: Callable[[int], None] = lambda _: None,
) -> Training:
    """Fit a head for the engine's model; `report` is told how many texts have been read.

    Raises:
        ConfigurationError: if the texts or the settings allow no fit.
        InferenceError: if a text is empty, a layer is not the model's, or the model fails.
    """
    candidates = _candidates(engine, settings)
    layers = sorted({layer for candidate in candidates for layer in candidate})
    examples = await read_examples(engine, texts, layers, window=settings.window, report=report)
    return await anyio.to_thread.run_sync(_best, engine, examples, layers, candidates, settings)


async def read_examples(
    engine: ReadableEngine,
    texts: Sequence[LabelledText],
    layers: Sequence[int],
    *,
    window: int,
    report: Callable[[int], None] = lambda _: None,
) -> list[Example]:
    """Return what a probe on these layers sees of each text, in order.

    Half of the texts is read behind one conversation and half behind another, where the model's template makes that
    possible: what stands before a text moves its states.

    Raises:
        InferenceError: as `train_head`.
    """
    from agentkit.inference.probe_contexts import befores, place_of
    from agentkit.inference.probe_reader import ProbeReader

    readers = [
        ProbeReader(engine, layers, window=window, priority=Priority.BACKGROUND, before=before)
        for before in befores(engine.tokenizer, room=engine.context_length - window - 1)
    ]
    limiter = anyio.CapacityLimiter(_AT_ONCE)
    examples: dict[int, Example] = {}
    failures: list[InferenceError] = []

    async def read(index: int, one: LabelledText) -> None:
        reader = readers[place_of(one.text, len(readers))]
        try:
            async with limiter:
                means = await reader.read(one.text)
        except InferenceError as exc:
            failures.append(exc)
            group.cancel_scope.cancel()
            return
        learned = reader.windows_over(one.text, *one.span) if one.span else []
        examples[index] = Example(
            means=means,
            label=one.label,
            group=one.group,
            learned=tuple(learned) or None,
            weight=one.weight,
        )
        report(len(examples))

    async with anyio.create_task_group() as group:
        for index, one in enumerate(texts):
            group.start_soon(read, index, one)
    if failures:
        raise failures[0]
    return [examples[index] for index in range(len(texts))]


def _candidates(engine: ReadableEngine, settings: HeadSettings) -> list[tuple[int, ...]]:
    """Return the layers to compare: those of the lower half know most of a text's sense, at half the cost."""
    if settings.layers is not None:
        wrong = [layer for layer in settings.layers if not 0 <= layer <= engine.num_layers]
        if wrong or not settings.layers:
            raise ConfigurationError(
                f"layers must name some of 0 to {engine.num_layers}, got {list(settings.layers)}"
            )
        return [tuple(sorted(set(settings.layers)))]
    return [
        (layer,)
        for layer in sorted({max(1, round(engine.num_layers * share / 12)) for share in (3, 4, 5, 6)})
    ]


def _best(
    engine: ReadableEngine,
    examples: Sequence[Example],
    layers: Sequence[int],
    candidates: Sequence[tuple[int, ...]],
    settings: HeadSettings,
) -> Training:
    labels = np.array([example.label for example in examples])
    fits: list[tuple[float, tuple[int, ...], Fitted]] = []
    for candidate in candidates:
        places = [layers.index(layer) for layer in candidate]
        seen = [replace(example, means=example.means[:, places]) for example in examples]
        fitted = fit_probe(seen, settings.fit)
        fits.append((auc(fitted.held_out[labels], fitted.held_out[~labels]), candidate, fitted))
    _, chosen, fitted = max(fits, key=lambda fit: fit[0])
    return Training(head=_head(engine, chosen, fitted, settings), fitted=fitted)


def _head(
    engine: ReadableEngine, layers: tuple[int, ...], fitted: Fitted, settings: HeadSettings
) -> ProbeHead:
    from agentkit.inference.probe_head import ProbeHead

    return ProbeHead(
        name=settings.name,
        model=settings.model,
        fingerprint=engine.fingerprint,
        layers=layers,
        window=settings.window,
        weights=fitted.weights,
        bias=fitted.bias,
        threshold=fitted.threshold,
        known_bad=settings.known_bad,
        known_good=settings.known_good,
    )
