"""What the embedded model makes of the texts of the probes' corpus, kept in a file between runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from agentkit.inference.engine import LocalEngine
from agentkit.inference.probe_reader import ProbeReader
from agentkit.shields.probe_fit import Example
from agentkit.shields.probe_training import WINDOW, LabelledText, read_examples
from benchmarks.probe_corpus import Row

Task = Literal["injection", "harm"]

# A longer text is cut: its end would weigh no more, and reading it takes as long again.
_MOST_TOKENS: Final = 480


class States:
    """The mean hidden states of each text's windows, (windows, layers, hidden_size), at some layers."""

    def __init__(self, path: Path | None, layers: Sequence[int]) -> None:
        """Begin with what a file holds of these layers, if there is one."""
        self.layers = tuple(layers)
        self._path = path
        self._means: dict[str, NDArray[np.float16]] = {}
        self._learned: dict[str, tuple[int, ...]] = {}
        if path is not None and path.exists():
            with np.load(path) as stored:
                places = [stored["layers"].tolist().index(layer) for layer in self.layers]
                means, ends = stored["means"][:, places], stored["ends"].tolist()
                digests = stored["digests"].tolist()
            for digest, start, end in zip(digests, [0, *ends[:-1]], ends, strict=True):
                self._means[digest] = means[start:end]

    async def read(self, engine: LocalEngine, rows: Sequence[Row]) -> None:
        """Read the texts that are not known, and keep them."""
        fresh = [text for text in dict.fromkeys(row.text for row in rows) if _digest(text) not in self._means]
        cut = [engine.tokenizer.decode(engine.tokenizer.encode(text)[:_MOST_TOKENS]) for text in fresh]
        labelled = [LabelledText(text=text, label=False) for text in cut]
        examples = await read_examples(engine, labelled, self.layers, window=WINDOW)
        for text, example in zip(fresh, examples, strict=True):
            self._means[_digest(text)] = example.means.astype(np.float16)
        reader = ProbeReader(engine, self.layers, window=WINDOW)
        for row in rows:
            if row.span is not None:
                over = reader.windows_over(row.text, *row.span)
                kept = len(self._means[_digest(row.text)])
                self._learned[_digest(row.text)] = tuple(index for index in over if index < kept)
        if fresh and self._path is not None:
            self._keep(self._path)

    def labelled(self, rows: Sequence[Row], task: Task) -> list[Row]:
        """Return the rows that have a label, without those whose attack was cut off."""
        return [
            row
            for row in rows
            if getattr(row, task) is not None and self._learned.get(_digest(row.text)) != ()
        ]

    def examples(self, rows: Sequence[Row], task: Task, layers: Sequence[int]) -> list[Example]:
        """Return rows as examples of a task, held out with their sources.

        A source of a hundred times as many texts counts for ten times as much.
        """
        sources = Counter(row.source for row in rows)
        places = [self.layers.index(layer) for layer in layers]
        return [
            Example(
                means=self._means[_digest(row.text)][:, places].astype(np.float32),
                label=bool(getattr(row, task)),
                group=row.held_out,
                learned=self._learned.get(_digest(row.text)) if getattr(row, task) else None,
                weight=sources[row.source] ** -0.5,
            )
            for row in rows
        ]

    def _keep(self, path: Path) -> None:
        np.savez(
            path,
            layers=np.array(self.layers),
            means=np.concatenate(list(self._means.values())),
            ends=np.cumsum([len(means) for means in self._means.values()]),
            digests=np.array(list(self._means)),
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
