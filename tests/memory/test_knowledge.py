"""Every knowledge store keeps documents by tenant, finds passages of them, and forgets what it is told to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory.knowledge import Document, KnowledgeHit, KnowledgeStore
from agentkit.memory.knowledge_postgres import PostgresKnowledge
from agentkit.memory.knowledge_sqlite import SQLiteKnowledge
from agentkit.memory.knowledge_urls import open_knowledge
from agentkit.messages import Origin, Provenance
from tests.memory.knowing import (
    NOTES,
    CharacterEmbedder,
    Make,
    add_notes,
    cleared_document,
    document,
    sources,
)

OPERATIONS = {
    "get": lambda store, tenant: store.get(tenant, "0" * 32),
    "delete": lambda store, tenant: store.delete(tenant, "0" * 32),
    "list": lambda store, tenant: store.list(tenant),
    "search": lambda store, tenant: store.search(tenant, "anything"),
}


@pytest.fixture
def store(make_store: Make) -> KnowledgeStore:
    return make_store()


async def test_a_document_comes_back_with_its_provenance(store: KnowledgeStore):
    before = datetime.now(UTC)
    document_id = await store.add("alice", await cleared_document("Tea at 5.", source="note", title="Tea"))
    stored = await store.get("alice", document_id)
    assert stored is not None
    assert stored.text == "Tea at 5."
    assert (stored.info.id, stored.info.title) == (document_id, "Tea")
    assert stored.info.provenance == Provenance(origin=Origin.USER, source="note")
    assert before <= stored.info.added <= datetime.now(UTC)
    assert await store.list("alice") == (stored.info,)


async def test_a_document_that_was_not_cleared_is_refused(store: KnowledgeStore):
    with pytest.raises(TypeError, match="only cleared content, got Document"):
        await store.add("alice", cast("Any", document("Tea at 5.")))
    assert await store.list("alice") == ()


async def test_what_was_stored_cannot_be_added_without_being_judged_again(store: KnowledgeStore):
    document_id = await store.add("alice", await cleared_document("Tea at 5."))
    with pytest.raises(TypeError, match="only cleared content"):
        await store.add("alice", cast("Any", await store.get("alice", document_id)))


async def test_the_same_text_of_the_same_source_is_one_document(store: KnowledgeStore):
    first = await store.add("alice", await cleared_document("Tea at 5.", source="a"))
    listed = await store.list("alice")
    again = await store.add("alice", await cleared_document("Tea at 5.", source="a", title="Later"))
    other = await store.add("alice", await cleared_document("Tea at 5.", source="b"))
    assert first == again != other
    assert (await store.list("alice"))[1:] == listed
    assert await sources(store, "tea") == ["b", "a"]


async def test_one_document_added_many_times_at_once_is_one(make_store: Make):
    await make_store().list("alice")
    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(make_store().add, "alice", await cleared_document("Tea at 5."))
    assert len(await make_store().list("alice")) == 1
    assert len(await make_store().search("alice", "tea")) == 1


async def test_documents_are_listed_the_newest_first(store: KnowledgeStore):
    await add_notes(store)
    assert [info.provenance.source for info in await store.list("alice")] == ["car", "food", "sister"]


async def test_documents_outlive_their_store(make_store: Make):
    await add_notes(make_store())
    assert await sources(make_store(), "Who is Anna?") == ["sister"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("What is my sister's name?", ["sister"]),
        ("peanuts", ["food"]),
        ("PEANUTS!", ["food"]),
        ("when does the car have to be inspected", ["car"]),
        ("the user", ["sister", "food"]),
        ("Lyon Renault", ["sister", "car"]),
        ("what is the", []),
        ("helicopter", []),
        ("", []),
        ("?!", []),
    ],
)
async def test_a_search_finds_what_its_words_say(store: KnowledgeStore, query: str, found: list[str]):
    await add_notes(store)
    assert sorted(await sources(store, query)) == sorted(found)


async def test_accents_and_scripts_do_not_hide_a_word(store: KnowledgeStore):
    for text in ("Une crème brûlée", "ГОСТИНИЦА в Казани", "京都の庭園"):
        await store.add("alice", await cleared_document(text, source=text))
    assert await sources(store, "creme brulee") == ["Une crème brûlée"]
    assert await sources(store, "гостиница") == ["ГОСТИНИЦА в Казани"]
    assert await sources(store, "庭園") == ["京都の庭園"]


async def test_rare_words_count_more_than_common_ones_and_short_passages_more_than_long(
    store: KnowledgeStore,
):
    for number in range(20):
        await store.add("alice", await cleared_document(f"The report of week {number}.", source=f"{number}"))
    padding = " ".join(f"word{number}" for number in range(100))
    await store.add("alice", await cleared_document(f"The turbine. {padding}", source="long"))
    await store.add("alice", await cleared_document("The turbine.", source="short"))
    assert await sources(store, "report turbine", limit=3) == ["short", "long", "19"]


async def test_the_title_is_found_too(store: KnowledgeStore):
    await store.add("alice", await cleared_document("See page 4.", title="Refunds"))
    (hit,) = await store.search("alice", "refunds")
    assert (hit.document.title, hit.passage) == ("Refunds", "See page 4.")


async def test_a_hit_of_a_long_document_is_a_passage(store: KnowledgeStore):
    paragraphs = [f"Paragraph {number} is about nothing. " * 10 for number in range(50)]
    paragraphs[30] = "The password of the greenhouse is under the third pot."
    await store.add("alice", await cleared_document("\n\n".join(paragraphs)))
    (best, *_) = await store.search("alice", "greenhouse")
    assert "third pot" in best.passage
    assert len(best.passage) <= 1_000


async def test_hits_come_best_first_and_not_more_than_asked_for(store: KnowledgeStore):
    for number in range(8):
        await store.add("alice", await cleared_document(f"tea {'coffee ' * number}", source=f"{number}"))
    hits = await store.search("alice", "tea", limit=3)
    assert [hit.document.provenance.source for hit in hits] == ["0", "1", "2"]
    assert hits[0].score > hits[1].score > hits[2].score > 0


@pytest.mark.parametrize("limit", [0, 51, -1])
async def test_an_impossible_limit_is_refused(store: KnowledgeStore, limit: int):
    with pytest.raises(ConfigurationError, match=f"1 to 50 hits, got limit={limit}"):
        await store.search("alice", "tea", limit=limit)


async def test_a_deleted_document_is_found_no_more(store: KnowledgeStore):
    ids = await add_notes(store)
    assert await store.delete("alice", ids["car"]) is True
    assert await store.delete("alice", ids["car"]) is False
    assert await store.get("alice", ids["car"]) is None
    assert await sources(store, "Renault Anna") == ["sister"]
    assert [info.provenance.source for info in await store.list("alice")] == ["food", "sister"]
    assert await store.add("alice", await cleared_document(NOTES["car"], source="car")) == ids["car"]
    assert await sources(store, "Renault") == ["car"]


async def test_a_tenant_never_sees_another_s_documents(store: KnowledgeStore):
    ids = await add_notes(store)
    for tenant in ("bob", "alice/team", "alic", ""):
        assert await store.list(tenant) == ()
        assert await store.search(tenant, "user sister Anna peanuts car") == ()
        for document_id in ids.values():
            assert await store.get(tenant, document_id) is None
            assert await store.delete(tenant, document_id) is False
    assert len(await store.list("alice")) == len(NOTES)


async def test_one_document_of_two_tenants_has_two_ids_and_is_deleted_once(store: KnowledgeStore):
    alice, bob = await add_notes(store, "alice"), await add_notes(store, "bob")
    assert not set(alice.values()) & set(bob.values())
    await store.delete("alice", alice["food"])
    assert await sources(store, "peanuts", tenant="bob") == ["food"]


async def test_scores_and_order_tell_nothing_of_other_tenants(store: KnowledgeStore):
    await add_notes(store)
    before = await store.search("alice", "Anna Renault peanuts user")
    for number in range(30):
        text = f"Anna Anna peanuts and the user {number}" * 10
        await store.add("bob", await cleared_document(text, source=f"{number}"))
    assert await store.search("alice", "Anna Renault peanuts user") == before


async def test_tenants_whose_numbers_begin_alike_are_apart(store: KnowledgeStore):
    for number in range(12):
        await store.add(f"t{number}", await cleared_document(f"1 x1 1x1 11x word{number}"))
    for query in ("1", "x1", "1x1", "11x", "2x1", "x"):
        for number in range(12):
            hits = await store.search(f"t{number}", query)
            assert [hit.passage for hit in hits] in ([], [f"1 x1 1x1 11x word{number}"])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("tenant", ["a b", "a\n", "ä", "a%", "x" * 201, "a\0"])
async def test_a_wrong_tenant_is_refused(store: KnowledgeStore, operation: str, tenant: str):
    with pytest.raises(ConfigurationError, match=r"has only|has at most"):
        await OPERATIONS[operation](store, tenant)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_closed_store_says_so(store: KnowledgeStore, operation: str):
    await store.list("alice")
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="is closed"):
        await OPERATIONS[operation](store, "alice")


@pytest.mark.parametrize(
    "text", ["\ud800", "a\0b", "😀", " \u2028\r\n x ", "x" * 5_000, "'; DROP TABLE x; --"]
)
async def test_any_text_comes_back(store: KnowledgeStore, text: str):
    document_id = await store.add("alice", await cleared_document(text, title=text[:100], source=text[:100]))
    stored = await store.get("alice", document_id)
    assert stored is not None
    assert (stored.text, stored.info.title, stored.info.provenance.source) == (text, text[:100], text[:100])


SYNTAX = st.sampled_from(
    ['"', "'", "*", "^", ":", "-", "+", "(", ")", "{", "}", "\\", "|", "&", "!", "<->", ":*", "\0", "\ud800",
     " AND ", " OR ", " NOT ", " NEAR(", "NEAR/2", "words:", "rowid", "anna", "Anna", "x", "1x", "--", ";"]
)  # fmt: skip


@given(parts=st.lists(SYNTAX | st.text(max_size=5), max_size=12))
@example(parts=["Anna", ' AND "'])
@example(parts=["words", ":", "Anna", "*"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_in_a_query_is_syntax(store: KnowledgeStore, parts: list[str]):
    await store.add("bob", await cleared_document("Anna belongs to Bob.", source="bob"))
    await store.add("alice", await cleared_document("Anna is here.", source="sister"))
    assert await sources(store, "".join(parts) + " Anna") == ["sister"]


async def test_a_cancelled_addition_leaves_all_or_nothing_and_a_usable_store(store: KnowledgeStore):
    cancelled = 0
    for attempt in range(20):
        added = await cleared_document(f"attempt{attempt} " * 2_000, source=f"{attempt}")
        with anyio.move_on_after(attempt / 1_000) as scope:
            await store.add("alice", added)
        cancelled += scope.cancelled_caught
        listed = {info.provenance.source for info in await store.list("alice")}
        assert bool(await sources(store, f"attempt{attempt}")) is (f"{attempt}" in listed)
    assert cancelled > 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": " \n"}, "needs a text"),
        ({"provenance": Provenance(origin=Origin.USER)}, "needs a source"),
        (
            {"provenance": Provenance(origin=Origin.TOOL, source="web", trusted=True)},
            "from tool cannot be trusted",
        ),
        (
            {"provenance": Provenance(origin=Origin.USER, source="x", trusted=True)},
            "from user cannot be trusted",
        ),
        ({"text": "x" * 300_001}, "at most 300000 characters, got 300001"),
        ({"title": "x" * 1_001}, "title of a document has at most 1000 characters"),
    ],
)
def test_a_document_that_cannot_be_is_refused(fields: dict[str, Any], reason: str):
    whole: dict[str, Any] = {
        "text": "Tea",
        "provenance": Provenance(origin=Origin.USER, source="x"),
        **fields,
    }
    with pytest.raises(ConfigurationError, match=reason):
        Document(**whole)


async def test_both_stores_find_the_same_with_the_same_scores(
    tmp_path: Path, database: Callable[..., PostgresKnowledge]
):
    chance = random.Random(0)
    words = ["tea", "Café", "x1", "庭", "user", "Straße", "the", "anna", "3.5", "e-mail"]
    stores: list[KnowledgeStore] = [
        SQLiteKnowledge(tmp_path / "agent.db", embedder=CharacterEmbedder()),
        database(embedder=CharacterEmbedder()),
    ]
    for number in range(40):
        text = " ".join(chance.choices(words, k=chance.randrange(1, 400)))
        for store in stores:
            await store.add("alice", await cleared_document(text, source=f"{number}"))
    for _ in range(40):
        query = " ".join(chance.choices(words, k=chance.randrange(1, 6)))
        sqlite_hits, postgres_hits = [await store.search("alice", query, limit=20) for store in stores]
        assert _without_times(sqlite_hits) == _without_times(postgres_hits)
    for store in stores:
        await store.close()


def _without_times(hits: Sequence[KnowledgeHit]) -> list[tuple[object, ...]]:
    return [(hit.document.id, hit.document.title, hit.passage, hit.score) for hit in hits]


def test_a_url_names_a_store(tmp_path: Path):
    store = open_knowledge(f"sqlite:///{tmp_path}/agent.db", embedder=CharacterEmbedder())
    assert isinstance(store, SQLiteKnowledge)
    assert store.path == tmp_path / "agent.db"
    assert open_knowledge(store) is store
    assert isinstance(open_knowledge("postgresql://agent@localhost/agents"), PostgresKnowledge)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://", "'memory://' keeps no documents; write sqlite:///"),
        ("sqlite://", "names no file"),
        ("mysql://localhost/x", "scheme 'mysql' is unknown"),
        (7, "a URL or a KnowledgeStore, got int"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: Any, reason: str):
    with pytest.raises(ConfigurationError, match=reason):
        open_knowledge(url)
