"""A probe's head as a file: what is written is read, and anything else is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from agentkit.errors import ConfigurationError, ModelLoadError
from agentkit.inference.probe_head import ProbeHead, load_head, save_head

HEAD = ProbeHead(
    name="spam",
    model="some-model",
    fingerprint="f" * 64,
    layers=(3, 5),
    window=32,
    weights=np.arange(8, dtype=np.float32).reshape(2, 4),
    bias=-0.5,
    threshold=0.9,
    known_bad="buy now",
    known_good="hello",
)


def test_a_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "spam.safetensors"
    save_head(HEAD, path)
    head = load_head(path)
    for name in (
        "name",
        "model",
        "fingerprint",
        "layers",
        "window",
        "bias",
        "threshold",
        "known_bad",
        "known_good",
    ):
        assert getattr(head, name) == getattr(HEAD, name)
    np.testing.assert_array_equal(head.weights, HEAD.weights)


def test_a_head_takes_a_few_kilobytes(tmp_path: Path) -> None:
    path = tmp_path / "spam.safetensors"
    save_head(replace(HEAD, weights=np.ones((2, 576), np.float32)), path)
    assert path.stat().st_size < 6_000


def test_the_probability_is_the_sigmoid_of_a_linear_map() -> None:
    means = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    expected = [1 / (1 + math.exp(0.5 - float((HEAD.weights * mean).sum()))) for mean in means]
    np.testing.assert_allclose(HEAD.probabilities(means), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": ""}, "needs a name, a model and the model's fingerprint"),
        ({"fingerprint": ""}, "needs a name, a model and the model's fingerprint"),
        ({"layers": ()}, r"layers must be some of the model's, got \[\]"),
        ({"layers": (3, 3)}, r"layers must be some of the model's, got \[3, 3\]"),
        ({"layers": (3,)}, r"1 layers cannot have weights of the shape \(2, 4\)"),
        ({"window": 4}, r"window must be in \[8, 4096\] tokens, got 4"),
        ({"threshold": 1.0}, r"threshold must be in \(0, 1\), got 1.0"),
        ({"threshold": math.nan}, r"threshold must be in \(0, 1\), got nan"),
        ({"bias": math.inf}, "must be finite numbers"),
        ({"weights": np.full((2, 4), np.nan, np.float32)}, "must be finite numbers"),
    ],
)
def test_a_head_that_could_not_judge_is_not_made(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(HEAD, **changed)  # type: ignore[arg-type]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"none.safetensors cannot be read: No such file"):
        load_head(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello, this is no tensor", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spam.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        ModelLoadError, match=r"spam.safetensors is no probe's head; make one with `agentkit probe"
    ):
        load_head(path)


def test_tensors_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weights": np.ones((1, 4), np.float32)}, path)
    with pytest.raises(ModelLoadError, match="is no probe's head"):
        load_head(path)


@pytest.mark.parametrize("length", [10, 100, 300, 400])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "spam.safetensors"
    save_head(HEAD, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelLoadError, match="is no probe's head"):
        load_head(path)


def test_a_file_of_a_models_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(ModelLoadError, match=r"has 17825792 bytes; a probe's head has a few thousand"):
        load_head(path)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save_head(HEAD, tmp_path / "no folder" / "spam.safetensors")
