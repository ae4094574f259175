"""How much a text reads like a jailbreak prompt: a linear model over hashed words and word pairs.

Knows a text's words and a file of weights, which `benchmarks/fit_instruction_override.py` makes; knows no rules.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentkit.errors import ConfigurationError

DIMENSIONS = 1 << 14
WINDOW_WORDS = 200

_WEIGHTS_FILE = "override_style.npz"
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleModel:
    """One weight for each hash bucket, and a bias; the logit of a window is their mean-like sum."""

    weights: NDArray[np.float32]
    bias: float

    def logit(self, text: str) -> float:
        """Return the highest logit of any window of a folded text; above 0 it reads like a jailbreak."""
        return max((self._window_logit(buckets) for buckets in window_buckets(text)), default=self.bias)

    def _window_logit(self, buckets: NDArray[np.int64]) -> float:
        return float(self.weights[buckets].sum()) / math.sqrt(len(buckets)) + self.bias


def window_buckets(text: str) -> Iterator[NDArray[np.int64]]:
    """Yield, for each window of words of a folded text, the hash buckets of its words and word pairs."""
    words = ["0" if word.isdigit() else word for word in _WORD.findall(text)]
    # A last window shorter than a quarter is too little to judge on its own, unless it is all there is.
    for start in range(0, max(1, len(words) - WINDOW_WORDS // 4), WINDOW_WORDS):
        window = words[start : start + WINDOW_WORDS]
        if not window:
            return
        pairs = (f"{first} {second}" for first, second in pairwise(window))
        buckets = {zlib.crc32(feature.encode()) % DIMENSIONS for feature in (*window, *pairs)}
        yield np.fromiter(buckets, np.int64, len(buckets))


@cache
def load_style_model() -> StyleModel:
    """Return the model that ships in the package.

    Raises:
        ConfigurationError: if its file is missing or not of this version's form.
    """
    path = files(__package__).joinpath(_WEIGHTS_FILE)
    try:
        with path.open("rb") as stream:
            arrays: Any = np.load(stream, allow_pickle=False)
            weights = arrays["weights"].astype(np.float32)
            bias = float(arrays["bias"])
    except (OSError, KeyError, ValueError) as exc:
        raise ConfigurationError(f"the weights {_WEIGHTS_FILE} cannot be read; reinstall agentkit") from exc
    if weights.shape != (DIMENSIONS,) or not (np.isfinite(weights).all() and math.isfinite(bias)):
        raise ConfigurationError(
            f"the weights {_WEIGHTS_FILE} are not {DIMENSIONS} finite numbers; reinstall agentkit"
        )
    return StyleModel(weights=weights, bias=bias)
