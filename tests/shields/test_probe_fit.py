"""Fitting a head: it finds what is there, its folds keep groups whole, its threshold keeps to its budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError
from agentkit.shields.probe_fit import (
    Example,
    FitSettings,
    assign_folds,
    calibration,
    fit_probe,
    threshold_within,
)
from agentkit.shields.probe_quality import auc


def examples(count: int, *, signal: float, groups: int = 0, seed: int = 0) -> list[Example]:
    """Half have the label: their first of four numbers is higher by `signal`."""
    draw = np.random.default_rng(seed)
    made = []
    for index in range(count):
        means = draw.normal(size=(1 + index % 3, 2, 2)).astype(np.float32)
        means[:, 0, 0] += signal * (index % 2)
        group = f"g{index % groups}" if groups else None
        made.append(Example(means=means, label=bool(index % 2), group=group))
    return made


def test_what_tells_them_apart_is_found() -> None:
    fitted = fit_probe(examples(200, signal=4.0), FitSettings())
    labels = np.array([bool(index % 2) for index in range(200)])
    assert auc(fitted.held_out[labels], fitted.held_out[~labels]) > 0.97
    assert np.abs(fitted.weights).argmax() == 0
    assert fitted.weights.shape == (2, 2)
    assert ((fitted.held_out > 0.5) == labels).mean() > 0.9


def test_where_nothing_tells_them_apart_held_out_scores_say_so() -> None:
    fitted = fit_probe(examples(200, signal=0.0), FitSettings(l2=1e-6))
    labels = np.array([bool(index % 2) for index in range(200)])
    assert 0.35 < auc(fitted.held_out[labels], fitted.held_out[~labels]) < 0.65


def test_the_same_examples_give_the_same_head() -> None:
    first, second = [fit_probe(examples(60, signal=2.0), FitSettings()) for _ in range(2)]
    np.testing.assert_array_equal(first.weights, second.weights)
    assert (first.bias, first.threshold) == (second.bias, second.threshold)


def test_the_head_flags_within_its_budget() -> None:
    made = examples(300, signal=2.0)
    for budget in (0.01, 0.05, 0.2):
        fitted = fit_probe(made, FitSettings(false_positives=budget))
        negatives = fitted.held_out[[not example.label for example in made]]
        assert (negatives >= fitted.threshold).mean() <= budget


@given(negatives=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), budget=st.floats(0.01, 0.5))
def test_a_threshold_keeps_to_its_budget(negatives: list[float], budget: float) -> None:
    scores = np.array(negatives)
    threshold = threshold_within(budget, scores)
    assert 0.0 < threshold < 1.0
    certain = scores >= 1.0 - 1e-6  # no threshold below one leaves these out
    assert ((scores >= threshold) & ~certain).sum() <= budget * len(scores)


@given(
    rows=st.lists(st.tuples(st.booleans(), st.sampled_from([None, "a", "b", "c", "d"])), min_size=1),
    folds=st.integers(2, 6),
)
def test_a_group_is_never_divided(rows: list[tuple[bool, str | None]], folds: int) -> None:
    homes = assign_folds([label for label, _ in rows], [group for _, group in rows], folds)
    assert set(homes.tolist()) <= set(range(folds))
    for group in "abcd":
        assert len({home for home, (_, of) in zip(homes.tolist(), rows, strict=True) if of == group}) <= 1


@given(labels=st.lists(st.booleans(), min_size=10, max_size=80))
def test_without_groups_each_label_spreads_evenly(labels: Sequence[bool]) -> None:
    folds = assign_folds(labels, [None] * len(labels), 5)
    for label in (True, False):
        counts = [
            sum(1 for home, one in zip(folds.tolist(), labels, strict=True) if home == fold and one is label)
            for fold in range(5)
        ]
        assert max(counts) - min(counts) <= 1


def test_calibrated_probabilities_are_the_shares_that_they_name() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(scale=6.0, size=4000)
    labels = draw.random(4000) < 1 / (1 + np.exp(-logits / 3))  # three times too sure
    scale, shift = calibration(logits, labels)
    assert scale == pytest.approx(1 / 3, rel=0.15)
    assert abs(shift) < 0.2


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (examples(12, signal=1.0), "6 examples have the label true; a fit needs 10 of each"),
        (examples(200, signal=1.0)[::2], "0 examples have the label true; a fit needs 10 of each"),
        (examples(40, signal=1.0, groups=2), "the groups leave a fold with one label only"),
    ],
)
def test_too_little_to_learn_from_is_refused(made: list[Example], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit_probe(made, FitSettings())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"l2": 0.0}, "l2 must be above 0"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"false_positives": 0.0}, r"false_positives must be in \(0, 0.5\], got 0.0"),
        ({"false_positives": 0.6}, r"false_positives must be in \(0, 0.5\], got 0.6"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FitSettings(**changed)  # type: ignore[arg-type]
