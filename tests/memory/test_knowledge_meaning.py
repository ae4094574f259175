"""With an embedder, a search also finds what says the same in other words."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import StoreError
from tests.memory.knowing import NOTES, CharacterEmbedder, Make, add_notes, cleared_document, sources


async def test_meaning_finds_what_no_word_of_the_query_says(make_store: Make):
    plain, hybrid = make_store(), make_store(embedder=CharacterEmbedder())
    await add_notes(hybrid)
    await hybrid.add("alice", await cleared_document("Refunding takes a week.", source="refunds"))
    query = "How do refunds work?"
    assert await sources(plain, query) == []
    assert await sources(hybrid, query) == ["refunds"]


async def test_words_and_meaning_agree_on_the_best(make_store: Make):
    store = make_store(embedder=CharacterEmbedder(min_similarity=0.1))
    await store.add("alice", await cleared_document("An invoice is paid in 30 days.", source="words"))
    await store.add("alice", await cleared_document("Invoices: paying late costs a fee.", source="meaning"))
    await store.add("alice", await cleared_document("Paying invoices, each invoice is due.", source="both"))
    hits = await store.search("alice", "paying an invoice")
    assert hits[0].document.provenance.source == "both"


async def test_vectors_of_another_embedder_are_never_compared(make_store: Make):
    await add_notes(make_store(embedder=CharacterEmbedder()))
    other = make_store(embedder=CharacterEmbedder(name="letters-3 of 8", dimensions=8, min_similarity=0.0))
    assert await sources(other, "zzz") == []
    await other.add("alice", await cleared_document(NOTES["car"], source="car"))
    assert await sources(other, "cars renaults") == ["car"]
    assert len(await other.list("alice")) == len(NOTES)


async def test_an_embedder_that_changed_under_its_name_is_found_out(make_store: Make):
    await add_notes(make_store(embedder=CharacterEmbedder()))
    with pytest.raises(
        StoreError, match=r"gives 8 numbers a vector, .* with 256; give another model another"
    ):
        await make_store(embedder=CharacterEmbedder(dimensions=8)).search("alice", "car")


class Careless(CharacterEmbedder):
    """Forgets a text, or gives no number."""

    async def embed(self, texts: Any) -> list[list[float]]:
        vectors = await super().embed(texts)
        return [[float("nan")] * self.dimensions for _ in vectors] if self.name == "nan" else vectors[1:]


@pytest.mark.parametrize("name", ["short", "nan"])
async def test_an_embedder_that_breaks_its_promise_stores_nothing(make_store: Make, name: str):
    store = make_store(embedder=Careless(name=name))
    with pytest.raises(StoreError, match=f"embedder '{name}' must give 1 vectors of 256 finite numbers"):
        await store.add("alice", await cleared_document("Tea at 5."))
    assert await store.list("alice") == ()


async def test_meaning_does_not_cross_tenants(make_store: Make):
    store = make_store(embedder=CharacterEmbedder(min_similarity=-1.0))
    await add_notes(store)
    assert await store.search("bob", "sister") == ()
    await store.add("bob", await cleared_document("Bob's sister.", source="bob"))
    assert await sources(store, "sister", tenant="bob") == ["bob"]
