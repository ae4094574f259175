"""Fits a probe's head on labelled examples: logistic regression, cross-validated, calibrated, with a threshold.

Numbers in, numbers out. Knows no text, no model and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agentkit.errors import ConfigurationError

Floats = NDArray[np.float64]

# A long text has many windows that say the same: so many of them, evenly spread, are learned from.
_MOST_WINDOWS: Final = 5
_NEWTON_STEPS: Final = 8
_LEAST_OF_A_LABEL: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One text as a probe sees it, (windows, layers, hidden_size), and whether it has what is looked for.

    Examples of one `group` have something in common that others have not, such as their source: they are held out
    together, so that the figures say what to expect of texts from elsewhere. `learned` are the windows to learn from,
    where not all show what is looked for; `weight` is how much the example counts in the fit.
    """

    means: NDArray[np.float32]
    label: bool
    group: str | None = None
    learned: tuple[int, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How a head is fit. `l2` weighs simplicity against the examples; `false_positives` is the budget of alarms."""

    l2: float = 0.03
    folds: int = 5
    false_positives: float = 0.01

    def __post_init__(self) -> None:
        if not self.l2 > 0.0:
            raise ConfigurationError(f"l2 must be above 0, got {self.l2!r}")
        if self.folds < 2:
            raise ConfigurationError(f"folds must be at least 2, got {self.folds}")
        if not 0.0 < self.false_positives <= 0.5:
            raise ConfigurationError(f"false_positives must be in (0, 0.5], got {self.false_positives!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """What was found. `held_out` are the examples' calibrated probabilities by heads that had not seen their fold."""

    weights: NDArray[np.float32]  # (layers, hidden_size)
    bias: float
    threshold: float
    held_out: Floats


def fit_probe(examples: Sequence[Example], settings: FitSettings) -> Fitted:
    """Fit on all examples; calibration and threshold come from those that a fold held out.

    Raises:
        ConfigurationError: if a label has too few examples, or the groups leave a fold without one of the labels.
    """
    labels = np.array([example.label for example in examples])
    for label in (True, False):
        if (count := int((labels == label).sum())) < _LEAST_OF_A_LABEL:
            raise ConfigurationError(
                f"{count} examples have the label {str(label).lower()}; a fit needs {_LEAST_OF_A_LABEL} of each"
            )
    logits = cross_validated_logits(examples, settings)
    scale, shift = calibration(logits, labels)
    held_out = _sigmoid(scale * logits + shift)
    weights, bias = _fit(examples, settings.l2)
    return Fitted(
        weights=(scale * weights).reshape(examples[0].means.shape[1:]).astype(np.float32),
        bias=float(scale * bias + shift),
        threshold=threshold_within(settings.false_positives, held_out[~labels]),
        held_out=held_out,
    )


def cross_validated_logits(examples: Sequence[Example], settings: FitSettings) -> Floats:
    """Return the logit of each example's worst window, by a head that has not seen the example's fold."""
    labels = [example.label for example in examples]
    folds = assign_folds(labels, [example.group for example in examples], settings.folds)
    logits = np.zeros(len(examples))
    for fold in range(settings.folds):
        seen = [example for example, where in zip(examples, folds, strict=True) if where != fold]
        if len({example.label for example in seen}) < 2:
            raise ConfigurationError("the groups leave a fold with one label only; use fewer folds or groups")
        weights, bias = _fit(seen, settings.l2)
        for index in np.flatnonzero(folds == fold).tolist():
            logits[index] = (_rows(examples[index].means) @ weights + bias).max()
    return logits


def assign_folds(labels: Sequence[bool], groups: Sequence[str | None], folds: int) -> NDArray[np.int64]:
    """Return the fold of each example: a group is never divided, and each label spreads as evenly as that allows."""
    names = [f"row {index}" if group is None else f"group {group}" for index, group in enumerate(groups)]
    sizes: dict[str, Counter[bool]] = {}
    for name, label in zip(names, labels, strict=True):
        sizes.setdefault(name, Counter())[label] += 1
    order = np.random.default_rng(0).permutation(len(sizes))
    shuffled = [list(sizes)[index] for index in order]
    filled = [Counter[bool]() for _ in range(folds)]
    home: dict[str, int] = {}
    for name in sorted(shuffled, key=lambda name: -sizes[name].total()):
        most = max(sizes[name], key=sizes[name].__getitem__)
        home[name] = min(range(folds), key=lambda fold: (filled[fold][most], filled[fold].total()))
        filled[home[name]].update(sizes[name])
    return np.array([home[name] for name in names])


def calibration(logits: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the scale (one over the temperature) and the shift that make sigmoids of logits probabilities.

    Both labels weigh the same, so a probability of one half is where they are equally likely.
    """
    scale, shift = _newton(logits[:, None], labels.astype(float), _even(np.ones(len(labels)), labels), 1e-4)
    return max(float(scale[0]), 1e-3), shift


def threshold_within(budget: float, negatives: Floats) -> float:
    """Return the lowest threshold at which no more than this share of the negatives is flagged.

    It lies half-way to the next negative that would be flagged rightly within the budget, or to 1.
    """
    falling = np.sort(negatives)[::-1]
    allowed = int(budget * len(falling))
    above = falling[allowed - 1] if allowed else 1.0
    middle = float(above + falling[allowed]) / 2
    return min(max(middle, float(np.nextafter(falling[allowed], 1.0)), 1e-6), 1.0 - 1e-6)


def _fit(examples: Sequence[Example], l2: float) -> tuple[Floats, float]:
    """Return weights and bias; long texts count as much as short ones, and both labels the same."""
    chosen = [_rows(example.means)[_chosen_windows(example)] for example in examples]
    rows = np.concatenate(chosen)
    labels = np.concatenate(
        [[example.label] * len(part) for example, part in zip(examples, chosen, strict=True)]
    )
    weights = np.concatenate(
        [[one.weight / len(part)] * len(part) for one, part in zip(examples, chosen, strict=True)]
    )
    weights = _even(weights, labels)
    mean = weights @ rows
    deviation = np.sqrt(weights @ (rows - mean) ** 2) + 1e-4
    theta, bias = _newton((rows - mean) / deviation, labels.astype(float), weights, l2)
    theta = theta / deviation
    return theta, bias - float(mean @ theta)


def _newton(rows: NDArray[np.floating], labels: Floats, weights: Floats, l2: float) -> tuple[Floats, float]:
    """Minimise the weighted logistic loss plus l2/2 times the squared weights; the bias is free."""
    columns = np.concatenate([rows, np.ones((len(rows), 1))], axis=1).astype(np.float32)
    penalty = np.full(columns.shape[1], l2)
    penalty[-1] = 1e-6
    theta = np.zeros(columns.shape[1])
    for _ in range(_NEWTON_STEPS):
        probabilities = _sigmoid(columns @ theta)
        gradient = columns.T @ ((probabilities - labels) * weights) + penalty * theta
        curvature = np.maximum(probabilities * (1.0 - probabilities), 1e-4) * weights
        hessian = ((columns * curvature[:, None].astype(np.float32)).T @ columns).astype(np.float64)
        theta = theta - np.linalg.solve(hessian + np.diag(penalty), gradient)
    return theta[:-1], float(theta[-1])


def _even(weights: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Scale the weights so that both labels have one half."""
    even = weights.astype(float)
    for label in (True, False):
        even[labels == label] /= 2.0 * even[labels == label].sum()
    return even


def _rows(means: NDArray[np.float32]) -> NDArray[np.float32]:
    return means.reshape(len(means), -1)


def _chosen_windows(example: Example) -> list[int]:
    """Return the windows to learn from: all that may be, or so many of them, evenly spread."""
    windows = list(range(len(example.means))) if example.learned is None else list(example.learned)
    places = np.linspace(0, len(windows) - 1, min(len(windows), _MOST_WINDOWS)).astype(np.int64)
    return [windows[place] for place in places]


def _sigmoid(logits: NDArray[np.floating]) -> Floats:
    clipped: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    return clipped
