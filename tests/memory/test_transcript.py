"""Only cleared content comes in, the ids stay what they were, and a failed turn leaves nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from agentkit.cleared import Cleared, require_cleared
from agentkit.memory import Entry, Transcript
from agentkit.messages import Message, Origin, Provenance, Role, ToolCall
from agentkit.testing.store_samples import cleared, turns

CALL = ToolCall(id="1", name="lookup", arguments={})


async def transcript_of(*messages: Message) -> Transcript:
    transcript = Transcript()
    for message in messages:
        transcript.append(await cleared(message), [len(transcript)])
    return transcript


async def test_what_is_appended_can_be_read_in_order():
    transcript = Transcript()
    transcript.append(await cleared(Message.system("rules")), [1, 2])
    transcript.begin_turn()
    transcript.append(await cleared(Message.user("hello")), [3])
    transcript.append(await cleared(Message.assistant("hi")), (4, 5, 6), generated=True)
    assert transcript.messages == (Message.system("rules"), Message.user("hello"), Message.assistant("hi"))
    assert transcript.ids == (1, 2, 3, 4, 5, 6)
    assert [(entry.turn, entry.generated) for entry in transcript.entries] == [
        (0, False),
        (1, False),
        (1, True),
    ]
    assert len(transcript) == 3


@pytest.mark.parametrize("content", [Message.user("hello"), "hello", None])
async def test_content_that_was_not_cleared_does_not_come_in(content: object):
    transcript = Transcript()
    with pytest.raises(TypeError, match="only cleared content"):
        transcript.append(cast("Any", content), [1])
    assert (len(transcript), transcript.ids) == (0, ())


async def test_cleared_content_that_is_no_message_does_not_come_in():
    text = (await cleared(Message.user("hello"))).map(lambda message: message.content)
    with pytest.raises(TypeError, match="holds a Message, got str"):
        Transcript().append(cast("Any", text), [1])


@pytest.mark.parametrize("ids", [[-1], [2**31], [0, 2**40]])
async def test_an_id_out_of_range_does_not_come_in(ids: list[int]):
    transcript = Transcript()
    with pytest.raises(ValueError, match=r"must be in \[0, 2147483647\]"):
        transcript.append(await cleared(Message.user("hello")), ids)
    assert len(transcript) == 0


async def test_the_prompt_is_all_ids_and_cleared():
    transcript = await transcript_of(Message.system("rules"), Message.user("hello"))
    prompt = transcript.prompt()
    assert type(prompt) is Cleared
    assert require_cleared(prompt) == transcript.ids == (0, 1)


async def test_a_prompt_does_not_change_when_the_transcript_grows():
    transcript = await transcript_of(Message.user("hello"))
    prompt = transcript.prompt()
    transcript.append(await cleared(Message.user("more")), [9])
    assert prompt.value == (0,)


async def test_a_turn_that_failed_leaves_nothing():
    transcript = await transcript_of(Message.system("rules"))
    before = (transcript.entries, transcript.ids, transcript.turn)
    mark = transcript.mark()
    transcript.begin_turn()
    transcript.append(await cleared(Message.user("hello")), [1, 2])
    transcript.append(await cleared(Message.assistant("")), [])
    transcript.rewind(mark)
    assert (transcript.entries, transcript.ids, transcript.turn) == before


async def test_a_mark_after_begin_turn_keeps_the_turn():
    transcript = Transcript()
    transcript.begin_turn()
    mark = transcript.mark()
    transcript.append(await cleared(Message.user("hello")), [1])
    transcript.rewind(mark)
    assert (transcript.turn, len(transcript)) == (1, 0)


@pytest.mark.parametrize(("num_entries", "turn"), [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2)])
async def test_truncate_keeps_the_first_entries_and_their_ids(num_entries: int, turn: int):
    entries = await turns(1, 2)
    transcript = Transcript(entries)
    transcript.truncate(num_entries)
    assert transcript.entries == tuple(entries[:num_entries])
    assert transcript.ids == tuple(id_ for entry in entries[:num_entries] for id_ in entry.ids)
    assert transcript.turn == turn


async def test_truncate_cannot_keep_more_than_there_is():
    transcript = await transcript_of(Message.user("hello"))
    mark = transcript.mark()
    with pytest.raises(ValueError, match="cannot keep 2 of 1 entries"):
        transcript.truncate(2)
    transcript.truncate(0)
    with pytest.raises(ValueError, match="cannot keep 1 of 0 entries"):
        transcript.rewind(mark)


async def test_an_earlier_conversation_goes_on_with_the_next_turn():
    entries = await turns(1, 2)
    transcript = Transcript(entries)
    assert transcript.begin_turn() == 3
    transcript.append(await cleared(Message.user("more")), [1])
    assert transcript.entries[-1].turn == 3
    assert transcript.ids[:-1] == Transcript(entries).ids


async def test_turns_that_fall_are_refused():
    with pytest.raises(ValueError, match="entry 3 is of turn 1, after turn 2"):
        Transcript([*await turns(2), *await turns(1)])


async def test_a_negative_turn_is_refused():
    with pytest.raises(ValueError, match="turn must be at least 0"):
        Entry(message=await cleared(Message.user("hello")), ids=(), turn=-1)


UNTRUSTED = Message.tool("a page", call=CALL)
FORGED = Message(role=Role.USER, content="hello", provenance=Provenance(origin=Origin.TOOL))


@pytest.mark.parametrize(
    ("messages", "tainted"),
    [
        ([], False),
        ([Message.system("rules"), Message.user("hello"), Message.assistant("hi")], False),
        ([Message.user("hello"), UNTRUSTED], True),
        ([Message.user("hello"), UNTRUSTED, Message.assistant("hi")], True),
        ([Message.user("hello"), Message.tool("22", call=CALL, trusted=True)], False),
        ([Message.user("hello"), UNTRUSTED, Message.user("thanks")], False),
        ([UNTRUSTED], True),
        ([Message.user("hello"), UNTRUSTED, FORGED], True),
    ],
)
async def test_tainted_means_untrusted_content_since_the_turn_began(messages: list[Message], tainted: bool):
    transcript = Transcript()
    for message in messages:
        if message.role is Role.USER:
            transcript.begin_turn()
        transcript.append(await cleared(message), [])
    assert transcript.tainted is tainted


async def test_a_message_s_id_is_its_turn_s_key_and_its_place_in_it():
    transcript = await transcript_of(Message.system("rules"))
    transcript.begin_turn()
    first = transcript.append(await cleared(Message.user("hello")), [1])
    second = transcript.append(await cleared(Message.assistant("hi")), [2])
    transcript.begin_turn("9f")
    third = transcript.append(await cleared(Message.user("more")), [3])
    assert [entry.message_id for entry in transcript.entries] == ["0.0", "1.0", "1.1", "9f.0"]
    assert transcript.entries[1:] == (first, second, third)


async def test_a_turn_that_goes_on_keeps_counting_under_its_key():
    transcript = Transcript((await turns(1, 2))[:5], key="9f")
    last = transcript.append(await cleared(Message.assistant("done")), [7])
    assert (last.turn, last.message_id) == (2, "9f.2")


async def test_spans_tell_of_every_id_who_stands_behind_it():
    entries = await turns(1, 2)
    transcript = Transcript(entries)
    spans = transcript.spans
    assert [transcript.ids[span.start : span.end] for span in spans] == [entry.ids for entry in entries]
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1].end == len(transcript.ids)
    for span, entry in zip(spans, entries, strict=True):
        message = entry.message.value
        assert (span.role, span.provenance) == (message.role, message.provenance)
        assert (span.message_id, span.decision_ids) == (entry.message_id, entry.decision_ids)
        assert (span.turn, span.generated) == (entry.turn, entry.generated)


async def test_an_entry_says_what_let_it_in_and_whether_it_stays():
    transcript = Transcript()
    entry = transcript.append(await cleared(Message.user("hello")), [1], decision_ids=["d1"], pinned=True)
    assert (entry.decision_ids, entry.pinned) == (("d1",), True)
