"""A document as rows, the same in every store: what goes in must be cleared. Knows no database."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentkit.cleared import Cleared, require_cleared
from agentkit.errors import StoreError
from agentkit.memory.knowledge import Document, DocumentInfo, Embedder
from agentkit.memory.knowledge_passages import split_passages, words_of
from agentkit.messages import Origin, Provenance

FORMAT_VERSION: Final = 1
"""Of the tables and of what stands in them."""


def check_format(version: int) -> None:
    """Accept the version of stored tables.

    Raises:
        StoreError: if this is not the agentkit for it.
    """
    if version != FORMAT_VERSION:
        raise StoreError(
            f"the stored knowledge has format version {version}, this agentkit reads version {FORMAT_VERSION}; "
            "use the agentkit that wrote it or name another store"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageRecord:
    """A passage as a store keeps it; `words` are what it is found by, its document's title among them."""

    text: bytes
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRecord:
    """A document as a store keeps it; `about` is JSON. Text is UTF-8 that may hold a lone surrogate."""

    id: str
    about: bytes
    text: bytes
    passages: tuple[PassageRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageRow:
    """A passage with what is known of its document, as a search reads it."""

    text: bytes
    words: str
    document_id: str
    about: bytes
    added: datetime


def encode_document(tenant: str, document: Cleared[Document]) -> DocumentRecord:
    """Return a document as a record. This is the door of every knowledge store.

    Raises:
        TypeError: if the document was not cleared by the pipeline.
    """
    value = require_cleared(document)
    title_words = words_of(value.title)
    return DocumentRecord(
        id=_document_id(tenant, value),
        about=_to_bytes(json.dumps(_about(value))),
        text=_to_bytes(value.text),
        passages=tuple(
            PassageRecord(text=_to_bytes(passage), words=" ".join([*title_words, *words_of(passage)]))
            for passage in split_passages(value.text)
        ),
    )


def decode_text(text: bytes) -> str:
    """Return a stored text, which is not cleared.

    Raises:
        StoreError: if it is not what was written.
    """
    try:
        return text.decode("utf-8", "surrogatepass")
    except ValueError as exc:
        raise StoreError("a stored document is damaged: its text is not UTF-8; restore a backup") from exc


def decode_info(document_id: str, about: bytes, added: datetime) -> DocumentInfo:
    """Return what is known of a stored document.

    Raises:
        StoreError: if it is not what was written.
    """
    try:
        data = json.loads(about)
        origin = Origin(data["origin"])
        trusted = data["trusted"] is True and origin is Origin.DEVELOPER
        return DocumentInfo(
            id=document_id,
            title=str(data["title"]),
            provenance=Provenance(origin=origin, source=str(data["source"]), trusted=trusted),
            added=added,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise StoreError(
            f"document {document_id!r} cannot be read; restore a backup or delete the document"
        ) from exc


async def embed_document(embedder: Embedder | None, document: Document) -> list[bytes]:
    """Return the vectors of a document's passages; none without an embedder.

    Raises:
        StoreError: if the embedder does not answer as it promised.
    """
    if embedder is None:
        return []
    return await _embed(
        embedder, [f"{document.title}\n{passage}" for passage in split_passages(document.text)]
    )


async def embed_query(embedder: Embedder | None, query: str) -> bytes | None:
    """Return a query's vector; None without an embedder.

    Raises:
        StoreError: if the embedder does not answer as it promised.
    """
    return None if embedder is None else (await _embed(embedder, [query]))[0]


async def _embed(embedder: Embedder, texts: Sequence[str]) -> list[bytes]:
    answer = await embedder.embed(texts)
    try:
        vectors = [array("f", vector) for vector in answer]
    except TypeError as exc:
        raise StoreError(f"embedder {embedder.name!r} must give numbers") from exc
    whole = all(len(vector) == embedder.dimensions and all(map(math.isfinite, vector)) for vector in vectors)
    if len(vectors) != len(texts) or not whole:
        raise StoreError(
            f"embedder {embedder.name!r} must give {len(texts)} vectors of {embedder.dimensions} finite numbers, "
            f"it gave {len(vectors)} of {sorted({len(vector) for vector in vectors})}"
        )
    return [_to_little_endian(vector) for vector in vectors]


def _to_little_endian(vector: array[float]) -> bytes:
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def _document_id(tenant: str, document: Document) -> str:
    named = json.dumps([tenant, document.source, document.text])
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def _about(document: Document) -> dict[str, str | bool]:
    return {
        "title": document.title,
        "source": document.source,
        "origin": document.provenance.origin.value,
        "trusted": document.provenance.trusted,
    }


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
