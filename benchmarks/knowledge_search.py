"""How long a search of about 10,000 passages takes: `python -m benchmarks.knowledge_search [URL]`. One JSON line.

The words are drawn as a language has them (Zipf), queries too: eight words, the commonest among them. Without a URL
the store is a temporary SQLite file. Vectors are of 384 dimensions, as small embedding models have them.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import anyio

from agentkit.cleared import Cleared
from agentkit.memory.knowledge import Document, KnowledgeStore
from agentkit.memory.knowledge_urls import open_knowledge
from agentkit.messages import Origin, Provenance
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy

NUM_DOCUMENTS, PARAGRAPHS, PARAGRAPH_WORDS, QUERIES = 100, 100, 90, 200
VOCABULARY = [f"word{number}" for number in range(20_000)]
FREQUENCIES = [1 / (rank + 1) for rank in range(len(VOCABULARY))]


class RandomEmbedder:
    """Gives a vector that means nothing: what is measured is reading and comparing them."""

    name = "random-384"
    dimensions = 384
    min_similarity = 0.05

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector a text."""
        return [random.Random(text).choices((-1.0, 1.0), k=self.dimensions) for text in texts]


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(VOCABULARY, FREQUENCIES, k=count))


def vouched(pipeline: Pipeline, document: Document) -> Cleared[Document]:
    return pipeline.vouch(document.text).map(lambda _: document)


async def fill(store: KnowledgeStore, chance: random.Random) -> None:
    pipeline = Pipeline(Policy.default())
    for number in range(NUM_DOCUMENTS):
        text = "\n\n".join(words(chance, PARAGRAPH_WORDS) for _ in range(PARAGRAPHS))
        provenance = Provenance(origin=Origin.DEVELOPER, source=f"file {number}")
        await store.add("alice", vouched(pipeline, Document(text=text, provenance=provenance)))


async def milliseconds(work: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await work()
    return (perf_counter() - started) * 1000


async def searches(store: KnowledgeStore, chance: random.Random) -> list[float]:
    queries = [words(chance, 8) for _ in range(QUERIES)]
    return sorted([await milliseconds(partial(store.search, "alice", query)) for query in queries])


async def measure(url: str) -> dict[str, float | str]:
    chance = random.Random(1)
    plain, hybrid = open_knowledge(url), open_knowledge(url, embedder=RandomEmbedder())
    filled = await milliseconds(partial(fill, hybrid, chance))
    by_words, both = await searches(plain, chance), await searches(hybrid, chance)
    oldest = (await plain.list("alice"))[-1]
    deleted = await milliseconds(partial(plain.delete, "alice", oldest.id))
    for store in (plain, hybrid):
        await store.close()
    return {
        "store": url.partition(":")[0],
        "words_p50_ms": round(by_words[QUERIES // 2], 1),
        "words_p95_ms": round(by_words[QUERIES * 95 // 100], 1),
        "words_and_vectors_p95_ms": round(both[QUERIES * 95 // 100], 1),
        "add_document_ms": round(filled / NUM_DOCUMENTS, 1),
        "delete_document_ms": round(deleted, 1),
    }


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(folder) / 'agent.db'}"
        print(json.dumps(await measure(url)))


if __name__ == "__main__":
    anyio.run(main)
