"""The memory table of docs/scaling.md is what its command prints, and its formula counts the published parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.model_memory import SHAPES, table

SCALING = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_table_of_the_document_is_what_the_command_prints():
    assert "\n".join(table()) in SCALING.read_text()


@pytest.mark.parametrize(
    ("shape", "parameters"),
    # The numbers of parameters on the models' cards.
    [(SHAPES[0], 8.03e9), (SHAPES[1], 70.6e9), (SHAPES[2], 405.9e9)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_formula_counts_the_parameters_of_the_published_models(shape, parameters):
    assert shape.layer_weights + shape.other_weights == pytest.approx(parameters, rel=0.001)


def test_a_token_of_the_8b_model_takes_what_its_shape_says():
    assert SHAPES[0].kv_bytes("bf16") == 32 * 2 * 8 * 128 * 2
