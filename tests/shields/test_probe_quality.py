"""The figures of a probe: AUC, shares with their intervals, and the ROC curve as a drawing."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.shields.probe_quality import Share, auc, flagged, recall_within, roc_points, roc_svg

scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=20).map(np.array)


@given(positives=scores, negatives=scores)
def test_auc_is_how_often_a_positive_is_above_a_negative(
    positives: np.ndarray, negatives: np.ndarray
) -> None:
    pairs = [(float(p > n) + 0.5 * float(p == n)) for p in positives for n in negatives]
    assert auc(positives, negatives) == pytest.approx(sum(pairs) / len(pairs))


@given(positives=scores, negatives=scores)
def test_the_roc_curve_rises_and_its_area_is_the_auc(positives: np.ndarray, negatives: np.ndarray) -> None:
    points = roc_points(positives, negatives)
    assert (points[0], points[-1]) == ((0.0, 0.0), (1.0, 1.0))
    area = 0.0
    for (left, low), (right, high) in pairwise(points):
        assert left <= right
        assert low <= high
        area += (right - left) * (low + high) / 2
    assert area == pytest.approx(auc(positives, negatives))


@given(positives=scores, negatives=scores, budget=st.floats(0.0, 0.99))
def test_recall_is_counted_within_its_budget(
    positives: np.ndarray, negatives: np.ndarray, budget: float
) -> None:
    share = recall_within(budget, positives, negatives)
    found = np.sort(positives)[len(positives) - share.hits :]
    if len(found):
        assert (negatives >= found.min()).mean() <= budget


def test_a_share_says_its_interval() -> None:
    assert str(Share(hits=8, total=10)) == "80.0% [49.0, 94.3]"  # Wilson's, as published tables have it
    assert Share(hits=0, total=0).interval == (0.0, 1.0)
    assert flagged(np.array([0.1, 0.5, 0.9]), 0.5) == Share(hits=2, total=3)


def test_the_drawing_is_well_formed_whatever_the_title() -> None:
    drawing = roc_svg(np.array([0.5, 1.0]), np.array([0.0, 0.5]), title="<spam & ham>")
    root = ElementTree.fromstring(drawing)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert any("<spam & ham>, AUC 0.875" in (text.text or "") for text in root.iter())
