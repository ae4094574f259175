"""Fits the style weights of `instruction_override` on labelled data and cross-validates the whole detector.

    python -m benchmarks.fit_instruction_override DATA_FOLDER [--write]

The folder holds jailbreaks.jsonl, benign_requests.jsonl, moderation.jsonl and indirect_injection.jsonl. Without
`--write` it only reports. The texts stay where they are; only hashed weights are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agentkit.shields
from agentkit.shields.normalize import views
from agentkit.shields.override_score import assess
from agentkit.shields.override_style import DIMENSIONS, StyleModel, window_buckets

Windows = list[NDArray[np.int64]]

EXAMPLES = Path(__file__).with_name("override_examples.jsonl")
WEIGHTS = Path(agentkit.shields.__file__).with_name("override_style.npz")
_L2 = 1e-4
_STEPS = 400
_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One labelled text and where it came from."""

    source: str
    text: str
    malicious: bool
    windows: Windows


def read_documents(folder: Path) -> list[Document]:
    """Return what the style model learns from: what users wrote, and clean tool results as more harmless text."""
    rows: list[tuple[str, str, bool]] = []
    rows += [("jailbreaks", row["text"], True) for row in read_rows(folder / "jailbreaks.jsonl")]
    rows += [("benign_requests", row["text"], False) for row in read_rows(folder / "benign_requests.jsonl")]
    for row in read_rows(folder / "moderation.jsonl"):
        rows.append(("moderation_unsafe" if row["unsafe"] else "moderation_safe", row["text"], False))
    clean = (row for row in read_rows(folder / "indirect_injection.jsonl") if not row["malicious"])
    rows += [("clean_tool_results", row["text"], False) for row in clean]
    own = (row for row in read_rows(EXAMPLES) if row["stage"] == "user_input")
    rows += [
        ("own_attacks" if row["malicious"] else "own_benign", row["text"], row["malicious"]) for row in own
    ]
    return [
        Document(
            source=source, text=text, malicious=malicious, windows=list(window_buckets(views(text)[1].text))
        )
        for source, text, malicious in rows
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def fit(documents: Sequence[Document]) -> StyleModel:
    """Fit a logistic regression by accelerated gradient descent: deterministic, both classes weigh the same."""
    windows = [buckets for document in documents for buckets in document.windows]
    labels = np.array([float(document.malicious) for document in documents for _ in document.windows])
    weights = np.array([1.0 / len(document.windows) for document in documents for _ in document.windows])
    for label in (0.0, 1.0):
        weights[labels == label] /= 2.0 * weights[labels == label].sum()
    features = np.zeros((len(windows), DIMENSIONS), np.float32)
    for row, buckets in zip(features, windows, strict=True):
        row[buckets] = 1.0 / np.sqrt(len(buckets))
    theta, bias = np.zeros(DIMENSIONS, np.float32), 0.0
    speed, bias_speed = np.zeros(DIMENSIONS, np.float32), 0.0
    rate = 1.0 / (0.5 + _L2)  # features have norm 1 and the bias adds 1: curvature is at most 2 / 4
    for step in range(_STEPS):
        momentum = step / (step + 3)
        ahead, bias_ahead = theta + momentum * speed, bias + momentum * bias_speed
        error = (1.0 / (1.0 + np.exp(-(features @ ahead + bias_ahead))) - labels) * weights
        new = ahead - rate * (features.T @ error.astype(np.float32) + _L2 * ahead)
        new_bias = bias_ahead - rate * float(error.sum())
        speed, bias_speed = new - theta, new_bias - bias
        theta, bias = new, new_bias
    return StyleModel(weights=theta.astype(np.float32), bias=bias)


def cross_validated_scores(documents: Sequence[Document]) -> NDArray[np.float64]:
    """Return the detector's score of every document, its style model never having seen the document's fold."""
    folds = np.random.default_rng(0).integers(0, _FOLDS, len(documents))
    scores = np.zeros(len(documents))
    for fold in range(_FOLDS):
        style = fit([document for document, where in zip(documents, folds, strict=True) if where != fold])
        for index in np.flatnonzero(folds == fold).tolist():
            scores[index] = assess(documents[index].text, untrusted=False, style=style).score
    return scores


def left_out_scores(documents: Sequence[Document], sources: frozenset[str]) -> NDArray[np.float64]:
    """Return the scores of the documents of some sources, the style model having seen none of these sources."""
    style = fit([document for document in documents if document.source not in sources])
    held_out = [document for document in documents if document.source in sources]
    return np.array([assess(document.text, untrusted=False, style=style).score for document in held_out])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with the labelled files")
    parser.add_argument("--write", action="store_true", help=f"write {WEIGHTS.name} into the package")
    arguments = parser.parse_args()
    documents = read_documents(arguments.data)
    scores = cross_validated_scores(documents)
    sources = np.array([document.source for document in documents])
    print(f"{_FOLDS}-fold cross-validation, share flagged at 0.5:")
    for source in dict.fromkeys(sources):
        flagged = scores[sources == source] >= 0.5
        print(f"  {source:20} {flagged.sum():4} of {len(flagged):4}")
    own = left_out_scores(documents, frozenset({"own_benign"}))
    print(f"own benign look-alikes, left out of the fit: {(own >= 0.5).sum()} of {len(own)} flagged")
    if arguments.write:
        style = fit(documents)
        np.savez_compressed(WEIGHTS, weights=style.weights.astype(np.float16), bias=np.float32(style.bias))
        print(f"wrote {WEIGHTS} ({WEIGHTS.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
