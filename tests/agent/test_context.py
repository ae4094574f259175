"""A full context: what stays keeps its ids, what is cut says so, and nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.agent.fitting import Fitter
from agentkit.errors import ContextLengthError
from agentkit.memory.window import Window
from agentkit.messages import Role, ToolSpec
from agentkit.testing import byte_tokenizer
from tests.agent.talking import NUMBERING, TOKENIZERS, Talk, made_room, num_tokens
from tests.inference.conversations import WEATHER, llama3, smollm2

pytestmark = pytest.mark.model

# Nothing is changed where nothing has to be


async def test_nothing_changes_while_there_is_room():
    talk = Talk(byte_tokenizer())
    talk.turn(1, "22 degrees")
    length = num_tokens(talk.entries) + 20 + 50
    for between_steps in (False, True):
        window = Window(strategy="summarise")
        assert await made_room(talk, window, context_length=length, between_steps=between_steps) is None
    assert await made_room(talk, Window(keep_turns=0), context_length=length - 1) is not None


# Dropping turns


@pytest.mark.parametrize("name", TOKENIZERS)
async def test_what_stays_keeps_its_very_ids(name: str):
    talk = Talk(TOKENIZERS[name]())
    for number in range(1, 9):
        talk.turn(number, "22 degrees")
    trimmed = await made_room(talk, Window(), context_length=num_tokens(talk.entries) + 50)
    assert trimmed is not None
    assert trimmed.event.dropped_turns >= 4
    kept = {id(one) for one in talk.entries}
    assert all(id(one) in kept for one in trimmed.entries)
    assert [one.message_id for one in trimmed.entries] == [
        one.message_id for one in talk.entries if one.turn == 0 or one.turn > trimmed.event.dropped_turns
    ]
    assert trimmed.unchanged == 1
    assert trimmed.event.tokens_before == num_tokens(talk.entries)
    assert trimmed.event.tokens_after == num_tokens(trimmed.entries)
    talk.assert_well_written(trimmed.entries)


async def test_tools_that_stand_in_the_first_message_move_to_the_next_and_are_counted():
    tools = [ToolSpec(name=f"tool_{index}", description="Does it.", parameters={}) for index in range(8)]
    talk = Talk(llama3(), tools=tools)
    for number in range(1, 20):
        talk.turn(number)
    room = num_tokens(talk.entries)
    trimmed = await made_room(talk, Window(target=0.7), context_length=room + 50)
    assert trimmed is not None
    assert trimmed.event.dropped_turns > 0
    moved = trimmed.entries[1]
    assert len(moved.ids) > 300 > 30 > max(len(one.ids) for one in trimmed.entries[2:])
    assert trimmed.event.tokens_after + 20 <= room * 0.7
    talk.assert_well_written(trimmed.entries)


async def test_a_template_that_begins_with_words_of_its_own_begins_with_them_again():
    talk = Talk(smollm2(), system=False)
    for number in range(1, 9):
        talk.turn(number)
    trimmed = await made_room(talk, Window(), context_length=num_tokens(talk.entries) + 50)
    assert trimmed is not None
    assert "You are a helpful AI assistant" in smollm2().decode(trimmed.entries[0].ids)
    assert trimmed.unchanged == 0
    talk.assert_well_written(trimmed.entries)


async def test_a_template_that_numbers_messages_has_them_rendered_again():
    talk = Talk(smollm2(), template=NUMBERING)
    for number in range(1, 9):
        talk.turn(number)
    trimmed = await made_room(talk, Window(), context_length=num_tokens(talk.entries) + 50)
    assert trimmed is not None
    assert not any(one.generated for one in trimmed.entries)
    talk.assert_well_written(trimmed.entries)


# Cutting results


@pytest.mark.parametrize("name", TOKENIZERS)
async def test_a_cut_result_keeps_its_beginning_and_says_what_is_missing(name: str):
    talk = Talk(TOKENIZERS[name](), tools=[WEATHER])
    result = 'It was "warm" in Zürich. ' * 100
    talk.turn(1, result)
    talk.turn(2, "22 degrees")
    talk.turn(3, "23 degrees")
    window = Window(target=0.9, tool_result_tokens=128)
    trimmed = await made_room(talk, window, context_length=num_tokens(talk.entries) + 50)
    assert trimmed is not None
    assert (trimmed.event.dropped_turns, trimmed.event.cut_results) == (0, 1)
    before, after = talk.entries[3], trimmed.entries[3]
    content = after.message.value.content
    kept, _, note = content.rpartition("\n")
    assert result.startswith(kept)
    assert note == f"[cut: the first {len(kept)} of 2500 characters are kept]"
    assert 120 <= len(after.ids) <= 128
    assert (after.message_id, after.turn, after.message.value.call_id) == (before.message_id, 1, "1.0")
    assert after.message.value.provenance == before.message.value.provenance
    assert [one is other for one, other in zip(talk.entries, trimmed.entries, strict=True)].count(False) == 1
    assert trimmed.unchanged == 3
    talk.assert_well_written(trimmed.entries)


async def test_between_steps_only_the_past_and_earlier_results_shrink():
    talk = Talk(byte_tokenizer())
    talk.turn(1)
    talk.turn(2, "a" * 900, "b" * 800, "c" * 700, answer="")
    trimmed = await made_room(
        talk, Window(strategy="summarise", target=0.6), context_length=2400, between_steps=True
    )
    assert trimmed is not None
    event = trimmed.event
    assert (event.dropped_turns, event.cut_results, event.summarised) == (1, 2, False)
    results = [one.message.value.content for one in trimmed.entries if one.message.value.role is Role.TOOL]
    assert [content[0] for content in results] == ["a", "b", "c"]
    assert [len(content) < 300 for content in results] == [True, True, False]


@pytest.mark.parametrize("between_steps", [False, True])
async def test_what_does_not_fit_at_all_is_an_error_with_both_numbers(between_steps: bool):
    talk = Talk(byte_tokenizer())
    talk.turn(1)
    talk.turn(2, "c" * 700, answer="")
    with pytest.raises(ContextLengthError) as caught:
        await made_room(talk, Window(), context_length=300, incoming=400, between_steps=between_steps)
    kept = num_tokens([one for one in talk.entries if one.turn == 0 or (between_steps and one.turn == 2)])
    assert (caught.value.prompt_tokens, caught.value.context_length) == (kept + 400, 300)


async def test_an_output_of_one_token_is_no_error():
    talk = Talk(byte_tokenizer())
    talk.turn(1, "c" * 200, answer="")
    prompt = num_tokens(talk.entries) + 20
    assert await made_room(talk, Window(), context_length=prompt + 1, between_steps=True) is None
    with pytest.raises(ContextLengthError, match=f"context is {prompt} tokens, prompt has {prompt}"):
        await made_room(talk, Window(), context_length=prompt, between_steps=True)


# What is always true, in every format


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    tokenizer = TOKENIZERS[draw(st.sampled_from(sorted(TOKENIZERS)))]()
    talk = Talk(tokenizer, tools=[WEATHER] if draw(st.booleans()) else (), system=draw(st.booleans()))
    for number in range(draw(st.integers(1, 6))):
        results = draw(st.lists(st.sampled_from(["22", "sunny and warm " * 30, "é" * 300]), max_size=3))
        answer = draw(st.sampled_from(["", "Warm.", "It is warm." * 20]))
        talk.turn(number, *results, answer=answer, pinned=draw(st.integers(0, 5)) == 0)
    return talk


@given(talks(), st.floats(0.1, 1.2), st.sampled_from([0.2, 0.6]), st.integers(0, 2), st.booleans())
def test_every_format_can_write_what_stays(talk, share, target, keep_turns, running):
    window = Window(target=target, keep_turns=keep_turns, tool_result_tokens=64)
    room = max(int(num_tokens(talk.entries) * share), 1)
    fitter = Fitter(talk.format, talk.tools)
    current = talk.transcript.turn if running else None
    plan, kept = fitter.fit(talk.entries, window, room=room, incoming=10, current_turn=current)
    talk.assert_well_written(kept)
    same = {one.message_id: one for one in talk.entries}
    assert all(one.message_id in same for one in kept)
    assert all(one is same[one.message_id] for one in kept) or plan.cut or plan.drop
    if plan.fits and not plan.cut:
        assert num_tokens(kept) + 10 <= room
