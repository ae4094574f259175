"""The driver of engines that go step by step, with an engine that counts."""

from __future__ import annotations

from benchmarks.peers.protocol import Conversation
from benchmarks.peers.stepping import SYSTEM, SteppingPeer


class CountingEngine:
    """Generates the length of the prompt, then the numbers after it; session 1 in pairs."""

    def __init__(self) -> None:
        self.prompts: list[tuple[int, list[int]]] = []
        self.ended = 0
        self._left: dict[int, list[int]] = {}

    def add(self, session: int, prompt: list[int], output_tokens: int) -> None:
        self.prompts.append((session, list(prompt)))
        self._left[session] = [len(prompt) + index for index in range(output_tokens)]

    def step(self) -> dict[int, list[int]]:
        drawn = {}
        for session, left in self._left.items():
            count = 2 if session == 1 else 1
            drawn[session], self._left[session] = left[:count], left[count:]
        return {session: ids for session, ids in drawn.items() if ids}

    def end(self) -> None:
        self.ended += 1


def test_each_prompt_has_the_system_prompt_the_turns_so_far_and_what_was_generated():
    engine = CountingEngine()
    turns = [[[7], [8]], [[9], [10]]]
    answer = SteppingPeer(engine).converse(Conversation(system=[1, 2], turns=turns, output_tokens=2))

    assert engine.prompts[0] == (SYSTEM, [1, 2])
    assert {(session, tuple(prompt)) for session, prompt in engine.prompts[1:]} == {
        (0, (1, 2, 7)),
        (1, (1, 2, 9)),
        (0, (1, 2, 7, 3, 4, 8)),
        (1, (1, 2, 9, 3, 4, 10)),
    }
    assert [[turn.ids for turn in session] for session in answer.turns] == [
        [[3, 4], [6, 7]],
        [[3, 4], [6, 7]],
    ]
    assert engine.ended == 1


def test_a_conversation_without_a_system_prompt_prefills_none():
    engine = CountingEngine()
    SteppingPeer(engine).converse(Conversation(system=[], turns=[[[5, 6]]], output_tokens=1))
    assert engine.prompts == [(0, [5, 6])]


def test_the_first_token_comes_no_later_than_the_last_one():
    answer = SteppingPeer(CountingEngine()).converse(Conversation(system=[1], turns=[[[2]]], output_tokens=5))
    turn = answer.turns[0][0]
    assert 0 < turn.first_seconds <= turn.seconds <= answer.turns_seconds
