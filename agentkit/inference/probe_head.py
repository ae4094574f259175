"""A probe's head: a linear map from mean hidden states to a logit, in a file of a few kilobytes. Runs no model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from agentkit.errors import ConfigurationError, InferenceError, ModelLoadError

_FORMAT: Final = "agentkit-probe-1"
# The file is read whole: more than this is no head.
_MAX_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbeHead:
    """What a fit found for one model.

    `weights` is (layers, hidden_size), for the layers of `layers`; it and `bias` give a logit whose sigmoid is the
    calibrated probability. A text is judged by the windows of `window` tokens; it is flagged from `threshold` on.
    `model` is the reference that it was fit on, `fingerprint` what that model was. `known_bad` and `known_good` are
    texts about which there is no doubt, for a test at load; "" where there is none.
    """

    name: str
    model: str
    fingerprint: str
    layers: tuple[int, ...]
    window: int
    weights: NDArray[np.float32]
    bias: float
    threshold: float
    known_bad: str = ""
    known_good: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.model or not self.fingerprint:
            raise ConfigurationError("a probe's head needs a name, a model and the model's fingerprint")
        if not self.layers or min(self.layers) < 0 or len(set(self.layers)) < len(self.layers):
            raise ConfigurationError(f"a probe's layers must be some of the model's, got {list(self.layers)}")
        if not 8 <= self.window <= 4096:
            raise ConfigurationError(f"a probe's window must be in [8, 4096] tokens, got {self.window}")
        if not 0.0 < self.threshold < 1.0:
            raise ConfigurationError(f"a probe's threshold must be in (0, 1), got {self.threshold!r}")
        if self.weights.ndim != 2 or self.weights.shape[0] != len(self.layers) or not self.weights.size:
            raise ConfigurationError(
                f"a probe of {len(self.layers)} layers cannot have weights of the shape {self.weights.shape}"
            )
        if not (np.isfinite(self.weights).all() and math.isfinite(self.bias)):
            raise ConfigurationError("a probe's weights must be finite numbers")

    def probabilities(self, means: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of each window from its mean hidden states, (windows, layers, hidden_size).

        Raises:
            InferenceError: if the model's states have another size than the head's.
        """
        if means.shape[1:] != self.weights.shape:
            raise InferenceError(
                f"the head {self.name!r} is for states of the shape {self.weights.shape}, got {means.shape[1:]}"
            )
        logits = np.tensordot(means.astype(np.float64), self.weights.astype(np.float64), axes=2) + self.bias
        return 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))


def save_head(head: ProbeHead, path: Path) -> None:
    """Write a head to a file.

    Raises:
        ConfigurationError: if it cannot be written.
    """
    said = {
        "format": _FORMAT,
        "name": head.name,
        "model": head.model,
        "fingerprint": head.fingerprint,
        "layers": json.dumps(list(head.layers)),
        "window": str(head.window),
        "threshold": repr(head.threshold),
        "known_bad": head.known_bad,
        "known_good": head.known_good,
    }
    tensors = {
        "weights": np.ascontiguousarray(head.weights, np.float32),
        "bias": np.array([head.bias], np.float32),
    }
    try:
        path.write_bytes(save(tensors, metadata=said))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}") from exc


def load_head(path: Path) -> ProbeHead:
    """Read a head that `save_head` wrote.

    Raises:
        ModelLoadError: if it is missing, damaged, or something else.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelLoadError(f"{path} has {path.stat().st_size} bytes; a probe's head has a few thousand")
        data = path.read_bytes()
    except OSError as exc:
        raise ModelLoadError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        return _head(_metadata(data), load(data))
    except (SafetensorError, ConfigurationError, KeyError, ValueError, TypeError) as exc:
        raise ModelLoadError(
            f"{path} is no probe's head; make one with `agentkit probe fit` ({type(exc).__name__}: {exc})"
        ) from exc


def _metadata(data: bytes) -> Mapping[str, str]:
    """Return what a safetensors file says about itself: a JSON header after its length in eight bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    said = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(said, dict) or said.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT}")
    return said


def _head(said: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> ProbeHead:
    return ProbeHead(
        name=said["name"],
        model=said["model"],
        fingerprint=said["fingerprint"],
        layers=tuple(int(layer) for layer in json.loads(said["layers"])),
        window=int(said["window"]),
        weights=tensors["weights"].astype(np.float32),
        bias=float(tensors["bias"].reshape(())),
        threshold=float(said["threshold"]),
        known_bad=said["known_bad"],
        known_good=said["known_good"],
    )
