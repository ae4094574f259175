"""Sessions find their replica again, wherever they are asked from, and move only when theirs is gone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agentkit.inference.replica_routing import MAX_FIRST_TOKENS, ranked, session_key

SPECIAL = frozenset({256, 257})
WORDS = st.lists(st.integers(0, 255), min_size=1, max_size=2 * MAX_FIRST_TOKENS)
URLS = st.lists(
    st.from_regex(r"http://[a-z]{1,8}:8\d{3}", fullmatch=True), min_size=2, max_size=6, unique=True
)


def key(prompt: list[int], scope: str = "t", public_prefix: int = 0) -> bytes:
    return session_key(prompt, scope=scope, public_prefix=public_prefix, special_ids=SPECIAL)


@given(public=WORDS, first=WORDS, rest=st.lists(st.integers(0, 257)))
def test_a_session_keeps_its_key_while_its_conversation_grows(public, first, rest):
    begun = [*public, *first, 257, 256]
    assert key(begun, public_prefix=len(public)) == key([*begun, *rest], public_prefix=len(public))


@given(first=WORDS, second=WORDS)
def test_other_first_messages_have_other_keys_as_far_as_they_are_looked_at(first, second):
    alike = [*first, 257][:MAX_FIRST_TOKENS] == [*second, 257][:MAX_FIRST_TOKENS]
    assert (key([*first, 257]) == key([*second, 257])) is alike


@given(prompt=WORDS, scope=st.text(), other=st.text())
def test_other_scopes_have_other_keys(prompt, scope, other):
    assert (key(prompt, scope) == key(prompt, other)) is (scope == other)


@given(urls=URLS, prompt=WORDS, data=st.data())
def test_the_order_of_replicas_is_the_same_however_they_are_written(urls, prompt, data):
    assert ranked(key(prompt), data.draw(st.permutations(urls))) == ranked(key(prompt), urls)


@given(urls=URLS, prompt=WORDS)
def test_without_one_replica_the_others_keep_their_order(urls, prompt):
    order = ranked(key(prompt), urls)
    for gone in urls:
        assert ranked(key(prompt), set(urls) - {gone}) == [url for url in order if url != gone]


def test_tenants_are_spread_over_all_replicas():
    urls = [f"http://10.0.0.{number}:8000" for number in range(4)]
    homes = Counter(ranked(key([1, 2, 3], f"tenant-{number}"), urls)[0] for number in range(4_000))
    assert all(850 < homes[url] < 1_150 for url in urls)
