"""Behind what texts are read for a fit: what a prompt has before what its user says, and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agentkit.inference.formats import format_for
from agentkit.inference.probe_contexts import befores, conversation_prefixes, place_of
from agentkit.inference.tokenizer import load_tokenizer
from agentkit.messages import Message
from tests.inference.conversations import llama3


def test_a_prefix_ends_where_the_users_words_begin() -> None:
    tokenizer = llama3()
    for prefix in conversation_prefixes(tokenizer):
        assert tokenizer.decode(prefix).endswith("user\n\n")
    prompt = format_for(tokenizer).render(
        [
            Message.system("You are a helpful assistant. You explain things in plain words."),
            Message.user("Hi"),
        ]
    )
    prefix = conversation_prefixes(tokenizer)[0]
    assert tuple(prompt[: len(prefix)]) == prefix


def test_a_model_without_a_template_has_none(tiny_checkpoint: Path) -> None:
    tokenizer = load_tokenizer(tiny_checkpoint)
    assert tokenizer.chat_template is None
    assert conversation_prefixes(tokenizer) == ()
    assert befores(tokenizer, room=100) == [
        [min(tokenizer.eos_ids) if tokenizer.bos_id is None else tokenizer.bos_id]
    ]


def test_what_has_no_room_is_left_out() -> None:
    lengths = [len(prefix) for prefix in conversation_prefixes(llama3())]
    assert [len(one) for one in befores(llama3(), room=max(lengths))] == lengths
    assert [len(one) for one in befores(llama3(), room=max(lengths) - 1)] == lengths[:1]
    assert [len(one) for one in befores(llama3(), room=5)] == [1]


@pytest.mark.parametrize("places", [1, 3])
def test_texts_are_spread_evenly(places: int) -> None:
    found = Counter(place_of(f"text {number}", places) for number in range(3000))
    assert sorted(found) == list(range(places))
    assert min(found.values()) > 0.9 * 3000 / places
