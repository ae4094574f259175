"""Whether ids may stand for what shields judged: other spellings of one text may, other texts and marks may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.agent.same_text import say_the_same
from agentkit.inference.tokenizer import Tokenizer
from agentkit.inference.tokenizer_parts import TokenizerParts

SPECIAL = {"<|eot_id|>": 300, "<|eom_id|>": 301, "<|python_tag|>": 302, "<|start|>": 303}
PAIRS = {260: b"ab", 261: b"bc", 262: "ä".encode()}


def tokenizer() -> Tokenizer:
    """One token a byte, some for pairs of bytes, and Llama's special tokens."""
    token_bytes = [bytes([value]) for value in range(256)] + [b""] * 48
    for token_id, text in (PAIRS | {token_id: name.encode() for name, token_id in SPECIAL.items()}).items():
        token_bytes[token_id] = text
    return Tokenizer(
        TokenizerParts(
            encode=lambda text: list(text.encode()),
            token_bytes=tuple(token_bytes),
            added_ids=SPECIAL,
            control_ids=frozenset(SPECIAL.values()),
            bos_id=None,
            eos_ids=frozenset({300}),
            chat_template=None,
            fingerprint="pairs",
        )
    )


TOKENIZER = tokenizer()


def ids(*parts: str | int) -> list[int]:
    return [
        token_id
        for part in parts
        for token_id in ([part] if isinstance(part, int) else TOKENIZER.encode(part))
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ids(), ids()),
        (ids("abc", 300), ids(260, "c", 300)),
        (ids("abc", 300), ids("a", 261, 300)),
        (ids("ä"), ids(262)),
        (ids("abc", 301), ids("abc", 300)),
        (ids(302, "abc", 301), ids("abc", 300)),
        (ids(303, "\n\nabc ", 300), ids(303, "abc", 300, "\n")),
        (ids("abc\n\n b", 300), ids("abc\nb", 300)),
    ],
)
def test_spellings_of_one_text_say_the_same(one: list[int], other: list[int]):
    assert say_the_same(TOKENIZER, one, other)
    assert say_the_same(TOKENIZER, other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ids("abc"), ids("abd")),
        (ids("abc", 300), ids("abc")),
        (ids("abc", 300), ids("abc", 300, 300)),
        (ids("abc", 300), ids("ab", 300, "c")),
        (ids("a", 300, "bc"), ids("ab", 300, "c")),
        (ids("abc<|eot_id|>"), ids("abc", 300)),
        (ids("<|start|>", "abc"), ids(303, "abc")),
        (ids("a bc"), ids("abc")),
        (ids(303, "abc", 300), ids(300, "abc", 303)),
        (ids("abc"), ids("abc", "\0")),
    ],
)
def test_another_text_or_mark_does_not(one: list[int], other: list[int]):
    assert not say_the_same(TOKENIZER, one, other)
    assert not say_the_same(TOKENIZER, other, one)


texts = st.lists(st.one_of(st.sampled_from(["ab", "bc", "x", "ä"]), st.sampled_from([300, 303])), max_size=8)


@given(texts, texts)
def test_it_holds_exactly_where_text_and_marks_agree(one: list[str | int], other: list[str | int]):
    def joined(parts: list[str | int]) -> str:
        return "".join(part if isinstance(part, str) else f"\0{part}\0" for part in parts)

    assert say_the_same(TOKENIZER, ids(*one), ids(*other)) == (joined(one) == joined(other))
