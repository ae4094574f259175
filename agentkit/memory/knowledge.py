"""What long-term memory is: documents of a tenant, found again by what they say. Knows no database.

The seams are `KnowledgeStore`, which keeps and finds documents, and `Embedder`, which finds them by meaning too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from agentkit.cleared import Cleared
from agentkit.errors import ConfigurationError
from agentkit.messages import Origin, Provenance

MAX_TEXT_CHARS: Final = 300_000
"""With title and source this is less than a shield refuses to judge in one piece."""

MAX_LABEL_CHARS: Final = 1_000
MAX_HITS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text to remember. `provenance` says who added it, and from which source: a URL, a file, a name.

    Only what a developer wrote may be marked as trusted.

    Raises:
        ConfigurationError: if the text or the source is missing, something is too long, or the mark is not due.
    """

    text: str
    provenance: Provenance
    title: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigurationError("a document needs a text that says something")
        if not self.source.strip():
            raise ConfigurationError(
                "a document needs a source: Provenance(..., source='where it comes from')"
            )
        if self.provenance.trusted and self.provenance.origin is not Origin.DEVELOPER:
            raise ConfigurationError(
                f"a document from {self.provenance.origin.value} cannot be trusted; only a developer's can"
            )
        _check_length("text", self.text, MAX_TEXT_CHARS)
        _check_length("title", self.title, MAX_LABEL_CHARS)
        _check_length("source", self.source, MAX_LABEL_CHARS)

    @property
    def source(self) -> str:
        """Where the text comes from."""
        return self.provenance.source or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentInfo:
    """What is known of a stored document without its text. `added` is in UTC."""

    id: str
    title: str
    provenance: Provenance
    added: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A document as the store holds it. It is not cleared: judge it before a model reads it."""

    info: DocumentInfo
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeHit:
    """A passage that a search found, of a document. It is not cleared: judge it before a model reads it.

    A higher `score` is a better hit of the same search; the scores of two searches do not compare.
    """

    document: DocumentInfo
    passage: str
    score: float


class Embedder(Protocol):
    """Turns texts into vectors that lie close together where texts mean the same."""

    @property
    def name(self) -> str:
        """Which model this is, with its version. Vectors are compared only under one name."""

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""

    @property
    def min_similarity(self) -> float:
        """The cosine from which on two texts are about the same; what is further apart is no hit."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector a text, in order. Texts are the user's: they must not be logged.

        Raises:
            AgentKitError: if there is no answer; the operation that asked fails with it.
        """


@runtime_checkable
class KnowledgeStore(Protocol):
    """Keeps documents and finds passages of them. Safe to call from many tasks of one event loop.

    Everything belongs to a tenant: the part of a session id before its last slash, "" where there is none.
    Nothing that a tenant is told, a score included, depends on what another tenant has stored.

    Every operation happens as a whole or not at all. Every method raises ConfigurationError for a tenant that
    has other characters than a session id may have, and StoreError when the store cannot be read or written,
    or is closed.
    """

    async def add(self, tenant: str, document: Cleared[Document]) -> str:
        """Keep a document, in passages; return its id.

        The same text of the same source is one document: adding it again returns the id and changes nothing,
        except that vectors which the store's embedder has not made yet are made.

        Raises:
            TypeError: if the document was not cleared by the pipeline.
        """

    async def get(self, tenant: str, document_id: str) -> StoredDocument | None:
        """Return a document, or None where the tenant has none of this id."""

    async def delete(self, tenant: str, document_id: str) -> bool:
        """Forget a document, with its passages, words and vectors; return whether there was one."""

    async def list(self, tenant: str) -> tuple[DocumentInfo, ...]:
        """Return what is known of the tenant's documents, the newest first."""

    async def search(self, tenant: str, query: str, *, limit: int = 5) -> tuple[KnowledgeHit, ...]:
        """Return the passages that fit a query best, the best first.

        A query is words, in any order; nothing in it is syntax. Words that say nothing ("the", "what") find
        nothing.

        Raises:
            ConfigurationError: if `limit` is not in [1, 50].
        """

    async def close(self) -> None:
        """Let go of the store. Closing twice is allowed."""


def check_limit(limit: int) -> None:
    """Accept how many hits a search may return.

    Raises:
        ConfigurationError: otherwise.
    """
    if not 1 <= limit <= MAX_HITS:
        raise ConfigurationError(f"a search returns 1 to {MAX_HITS} hits, got limit={limit!r}")


def _check_length(name: str, text: str, bound: int) -> None:
    if len(text) > bound:
        raise ConfigurationError(
            f"the {name} of a document has at most {bound} characters, got {len(text)}; shorten or part it"
        )
