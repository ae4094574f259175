"""Which passages fit a query best: by its words (BM25), by its meaning (cosine), and both in one ranking.

The same for every store; knows none. All counts are of one tenant, so that no score tells of another's documents.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentkit.errors import StoreError
from agentkit.memory.knowledge import KnowledgeHit
from agentkit.memory.knowledge_records import PassageRow, decode_info, decode_text

# As Robertson and Zaragoza advise ("The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
_K1: Final = 1.2
_B: Final = 0.75

# From Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
# Methods", SIGIR 2009.
_FUSION_K: Final = 60

MAX_CANDIDATES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Which of a tenant's passages hold which word of a query, and how many passages and words a passage it has."""

    passages_by_word: Mapping[str, Sequence[int]]
    num_passages: int
    average_words: float

    def weight(self, word: str) -> float:
        """Return how much a word says: the fewer passages hold it, the more. Always above 0."""
        held = len(self.passages_by_word[word])
        return math.log1p((self.num_passages - held + 0.5) / (held + 0.5))


def candidates(matches: Matches) -> list[int]:
    """Return the passages whose words weigh most together, the best first, newer before older: worth reading."""
    weights: defaultdict[int, float] = defaultdict(float)
    for word, passages in matches.passages_by_word.items():
        weight = matches.weight(word)
        for passage in passages:
            weights[passage] += weight
    return _best(weights.items())


def by_meaning(query: bytes, vectors: Mapping[int, bytes], *, min_similarity: float) -> list[int]:
    """Return the passages whose vectors are close enough to the query's, the closest first.

    Raises:
        StoreError: if a stored vector has another number of dimensions.
    """
    if not vectors:
        return []
    import numpy as np  # only who has an embedder needs it

    wrong = next((vector for vector in vectors.values() if len(vector) != len(query)), None)
    if wrong is not None:
        raise StoreError(
            f"the embedder gives {len(query) // 4} numbers a vector, the store holds vectors of its name with "
            f"{len(wrong) // 4}; give another model another name"
        )
    wanted = np.frombuffer(query, dtype="<f4")
    stored = np.frombuffer(b"".join(vectors.values()), dtype="<f4").reshape(len(vectors), len(wanted))
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(wanted)
    cosines = np.divide(stored @ wanted, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    passages = list(vectors)
    near = np.flatnonzero(cosines >= min_similarity)
    return _best((passages[index], float(cosines[index])) for index in near)


def best_hits(
    rows: Mapping[int, PassageRow], matches: Matches, near: Sequence[int], *, limit: int
) -> tuple[KnowledgeHit, ...]:
    """Return the passages that rank best by words and by meaning together. `rows` holds all that rank in either.

    Raises:
        StoreError: if a row is not what was written.
    """
    by_words = _best(
        (passage, _bm25(rows[passage].words.split(), matches)) for passage in candidates(matches)
    )
    return tuple(_hit(rows[passage], score) for passage, score in fused(by_words, near)[:limit])


def fused(*rankings: Sequence[int]) -> list[tuple[int, float]]:
    """Return the passages of all rankings with their scores, by reciprocal rank fusion, the best first."""
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, passage in enumerate(ranking, start=1):
            scores[passage] += 1 / (_FUSION_K + rank)
    return sorted(scores.items(), key=_best_and_newest_first)


def _bm25(words: Sequence[str], matches: Matches) -> float:
    counts = Counter(words)
    length = _K1 * (1 - _B + _B * len(words) / matches.average_words)
    return sum(
        matches.weight(word) * counts[word] * (_K1 + 1) / (counts[word] + length)
        for word in matches.passages_by_word
    )


def _best(scores: Iterable[tuple[int, float]]) -> list[int]:
    return [passage for passage, _ in sorted(scores, key=_best_and_newest_first)[:MAX_CANDIDATES]]


def _best_and_newest_first(scored: tuple[int, float]) -> tuple[float, int]:
    passage, score = scored
    return -score, -passage


def _hit(row: PassageRow, score: float) -> KnowledgeHit:
    return KnowledgeHit(
        document=decode_info(row.document_id, row.about, row.added),
        passage=decode_text(row.text),
        score=score,
    )
