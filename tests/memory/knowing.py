"""What the tests of long-term memory share: cleared documents, and a small embedder that is a real one."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentkit.cleared import Cleared
from agentkit.memory.knowledge import Document, KnowledgeStore
from agentkit.messages import Message, Origin, Provenance
from tests.clearing import cleared

Make = Callable[..., KnowledgeStore]

NOTES = {
    "sister": "The user's sister is called Anna. She lives in Lyon.",
    "food": "The user eats no meat, and is allergic to peanuts.",
    "car": "The car is a blue Renault from 1998, and it has to be inspected in May.",
}


def document(
    text: str, *, source: str = "handbook", title: str = "", origin: Origin = Origin.USER
) -> Document:
    return Document(text=text, title=title, provenance=Provenance(origin=origin, source=source))


async def cleared_document(text: str, *, source: str = "handbook", title: str = "") -> Cleared[Document]:
    made = document(text, source=source, title=title)
    return (await cleared(Message.user(text))).map(lambda _: made)


@dataclass(kw_only=True)
class CharacterEmbedder:
    """Counts hashed runs of 3 letters: "refunding" and "refunds" come out close, also across words."""

    name: str = "letters-3"
    dimensions: int = 256
    min_similarity: float = 0.3
    embedded: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        letters = "".join(char for char in text.casefold() if char.isalnum())
        counts = [0.0] * self.dimensions
        for start in range(len(letters) - 2):
            counts[zlib.crc32(letters[start : start + 3].encode()) % self.dimensions] += 1
        length = math.hypot(*counts) or 1.0
        return [count / length for count in counts]


async def add_notes(store: KnowledgeStore, tenant: str = "alice") -> dict[str, str]:
    return {
        name: await store.add(tenant, await cleared_document(text, source=name))
        for name, text in NOTES.items()
    }


async def sources(store: KnowledgeStore, query: str, *, tenant: str = "alice", limit: int = 5) -> list[str]:
    hits = await store.search(tenant, query, limit=limit)
    return [hit.document.provenance.source or "" for hit in hits]
