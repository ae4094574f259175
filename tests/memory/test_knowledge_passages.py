"""Passages and words, and how they rank: what a search does before and after it asks a database."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentkit.memory.knowledge_passages import (
    MAX_QUERY_WORDS,
    MAX_WORD_CHARS,
    PASSAGE_CHARS,
    index_words,
    query_words,
    split_passages,
    words_of,
)
from agentkit.memory.knowledge_ranking import Matches, by_meaning, candidates, fused

TEXTS = st.text(max_size=200) | st.lists(
    st.sampled_from(["word", "longer-word", "x" * 300, ". ", " ", "\n\n", "\r\n", "。", "庭園", "é"]),
    max_size=400,
).map("".join)

ENDS = st.sampled_from([" ", " ", " ", ". ", "\n", "\n\n", "\r\n\r\n", "。"])


@given(ends=st.lists(st.tuples(st.integers(0, 200), ENDS), max_size=300))
def test_passages_are_pieces_of_the_text_in_order_that_leave_nothing_out(ends: list[tuple[int, str]]):
    text = "".join(f"w{number}{'x' * length}{end}" for number, (length, end) in enumerate(ends))
    covered = 0
    for passage in split_passages(text):
        start = text.index(passage)  # every word is another one
        assert not text[covered:start].strip()
        assert covered < start + len(passage)
        covered = start + len(passage)
    assert not text[covered:].strip()


@given(text=TEXTS)
def test_no_passage_is_longer_than_the_bound_or_empty(text: str):
    passages = split_passages(text)
    assert bool(passages) is bool(text.strip())
    assert all(0 < len(passage) <= PASSAGE_CHARS and passage in text for passage in passages)


def test_a_short_text_is_one_passage():
    assert split_passages(" One paragraph.\n\nAnother one.\n") == ["One paragraph.\n\nAnother one."]
    assert split_passages(" \n") == []


def test_a_passage_ends_with_a_paragraph_and_the_next_begins_with_its_last_words():
    first, second = "a" * 100 + " " + "b c " * 180, "d " * 300
    passages = split_passages(f"{first.strip()}.\n\n{second}")
    assert len(passages) == 2
    assert passages[0].endswith("b c.")
    assert passages[1].startswith(("b c", "c b"))
    assert passages[1].endswith("d d")


@given(text=TEXTS)
def test_words_are_letters_and_digits_alone_so_that_no_index_parts_or_changes_them(text: str):
    for word in words_of(text):
        assert word.isalnum()
        assert word == word.casefold()
        assert 1 <= len(word) <= MAX_WORD_CHARS


def test_words_of_a_sentence():
    assert words_of("Straße, CAFÉ_noir: it's 3.5%!") == ["strasse", "cafe", "noir", "it", "s", "3", "5"]


def test_a_query_looks_for_distinct_words_that_say_something_and_not_for_too_many():
    assert query_words("What is the name of the cat? The CAT!") == ["name", "cat"]
    assert len(query_words(" ".join(f"word{number}" for number in range(1_000)))) == MAX_QUERY_WORDS


@given(
    tenant=st.integers(1, 10_000),
    other=st.integers(1, 10_000),
    word=st.from_regex(r"[0-9x]{1,8}", fullmatch=True),
)
def test_indexed_words_of_two_tenants_are_never_the_same(tenant: int, other: int, word: str):
    same = {index_words(tenant, word)} & {index_words(other, end) for end in (word, word[1:], "x" + word)}
    assert not same or tenant == other


def matches(passages_by_word: dict[str, list[int]], num_passages: int) -> Matches:
    return Matches(passages_by_word=passages_by_word, num_passages=num_passages, average_words=10)


@given(held=st.integers(0, 500), more=st.integers(0, 500))
def test_a_rarer_word_weighs_more_and_every_word_something(held: int, more: int):
    both = matches({"a": list(range(held)), "b": list(range(held + more))}, 1_000)
    assert both.weight("a") >= both.weight("b") > 0


def test_candidates_are_those_that_hold_most_and_of_equals_the_newest():
    assert candidates(matches({"a": [1, 2, 3], "b": [2, 5]}, 10)) == [2, 5, 3, 1]


def test_fusion_prefers_what_both_rankings_have():
    assert [passage for passage, _ in fused([1, 2, 3], [4, 2, 5])] == [2, 4, 1, 5, 3]
    assert fused([7]) == [(7, 1 / 61)]


def test_meaning_is_the_cosine_as_numpy_has_it_and_a_vector_of_zeros_is_near_nothing():
    chance = np.random.default_rng(0)
    stored = chance.normal(size=(50, 16)).astype("<f4")
    stored[7] = 0
    wanted = chance.normal(size=16).astype("<f4")
    cosines = [
        float(v @ wanted / np.linalg.norm(v) / np.linalg.norm(wanted)) if v.any() else 0.0 for v in stored
    ]
    near = [index for index in np.argsort(cosines)[::-1].tolist() if cosines[index] >= 0.1]
    vectors = {index: stored[index].tobytes() for index in random.Random(0).sample(range(50), 50)}
    assert by_meaning(wanted.tobytes(), vectors, min_similarity=0.1) == near
    assert by_meaning(wanted.tobytes(), {}, min_similarity=0.1) == []
