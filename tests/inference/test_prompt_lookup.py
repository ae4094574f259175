"""What prompt lookup foretells is what a search of everything before would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentkit.inference.prompt_lookup import FIRST_CHANCE, LONGEST, PLACES, PromptLookup

FEW_IDS = st.integers(0, 2)
SHORT = st.lists(FEW_IDS, max_size=PLACES)  # no pair can have more places than are looked at
LONG = st.lists(FEW_IDS, min_size=PLACES, max_size=300)


def agreement(ids: list[int], place: int) -> int:
    """Return how many ids before a place are also the last ones."""
    count = 0
    while count < place and ids[place - 1 - count] == ids[len(ids) - 1 - count]:
        count += 1
    return count


def longest_agreement(ids: list[int]) -> int:
    return max((agreement(ids, place) for place in range(1, len(ids))), default=0)


def lookup_of(ids: list[int], prompt: int) -> PromptLookup:
    lookup = PromptLookup(ids[:prompt])
    for end in range(prompt, len(ids) + 1):
        lookup.follow(ids[:end])
    return lookup


@given(ids=SHORT, split=st.integers(0, PLACES))
def test_the_place_is_that_of_the_longest_agreement(ids, split):
    lookup = lookup_of(ids, min(split, len(ids)))
    longest = longest_agreement(ids)
    if longest < 2:
        assert lookup.place is None
    else:
        assert lookup.place is not None
        assert agreement(ids, lookup.place) == longest


@given(ids=SHORT)
def test_of_equally_long_agreements_a_search_takes_the_latest(ids):
    place = PromptLookup(ids).place
    if place is not None:
        later = range(place + 1, len(ids))
        assert all(agreement(ids, other) < agreement(ids, place) for other in later)


@given(ids=LONG, split=st.integers(0, 300))
def test_a_long_sequence_is_searched_in_part_and_what_is_found_agrees(ids, split):
    lookup = lookup_of(ids, min(split, len(ids)))
    assert (lookup.place is None) == (longest_agreement(ids) < 2)
    if lookup.place is not None:
        assert agreement(ids, lookup.place) >= 2


@given(ids=LONG, split=st.integers(0, 300))
def test_taking_ids_one_by_one_or_at_once_is_the_same(ids, split):
    split = min(split, len(ids))
    at_once = PromptLookup(ids[:split])
    at_once.follow(ids)
    one_by_one = lookup_of(ids, split)
    assert (at_once.place, at_once.chance) == (one_by_one.place, one_by_one.chance)


@given(ids=LONG, count=st.integers(0, 40))
def test_a_draft_goes_on_as_the_sequence_did_and_then_repeats_it(ids, count):
    lookup = PromptLookup(ids)
    draft = lookup.draft(count)
    if lookup.place is None:
        assert draft == []
        return
    followed = list(ids)
    for number in range(count):
        followed.append(followed[lookup.place + number])
    assert draft == followed[len(ids) :]


def test_a_longer_agreement_wins_over_a_later_one():
    row_1, row_2 = [1, 50, 51, 100], [2, 50, 51, 200]
    lookup = PromptLookup([*row_1, *row_2, 9, *row_1, 2, 50, 51])
    assert lookup.draft(1) == [200]


def test_agreement_beyond_the_longest_is_as_good_as_the_longest():
    stretch = list(range(LONGEST))
    lookup = PromptLookup([99, 98, *stretch, 1000, *stretch, 2000, 99, 98, *stretch])
    assert lookup.draft(1) == [2000]


def test_the_chance_follows_how_often_it_was_right():
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 7, 8, 1, 2])
    assert lookup.chance == FIRST_CHANCE
    lookup.follow([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5])
    sure = lookup.chance
    assert sure > FIRST_CHANCE
    lookup.follow([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 70])
    assert lookup.chance < sure


def test_where_nothing_was_foretold_the_chance_stays():
    lookup = PromptLookup([1, 2, 3])
    lookup.follow([1, 2, 3, 4, 5, 6])
    assert lookup.chance == FIRST_CHANCE
