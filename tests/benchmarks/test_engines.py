"""The engine benchmark as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.engines.__main__ import main
from benchmarks.engines.lineup import REFERENCE
from benchmarks.engines.peer_process import PeerError, PeerProcess
from benchmarks.peers.protocol import Conversation
from tests.inference.tiny import build_tiny_checkpoint


@pytest.mark.model
def test_a_quick_run_measures_agentkit_and_writes_its_results(tmp_path: Path, capsys):
    asked = ["--quick", "--threads", "1", "--rounds", "2", "--budget-minutes", "0", "--output", str(tmp_path)]
    assert main(asked) == 0

    found = json.loads((tmp_path / "engines.json").read_text())
    assert all(set(of) == {REFERENCE.name} for of in found["figures"].values())
    assert set(found["rounds"][REFERENCE.name].values()) == {1}
    assert (tmp_path / "engines.txt").read_text() in capsys.readouterr().out
    assert (tmp_path / "engines.svg").read_text().startswith("<svg")


def test_a_peer_holds_a_conversation_of_several_sessions(tmp_path: Path):
    peer = PeerProcess(REFERENCE, build_tiny_checkpoint(tmp_path / "tiny"), threads=1)
    try:
        turns = [[[5, 6], [7]], [[8, 9], [10]]]
        answer = peer.converse(Conversation(system=[1, 2, 3], turns=turns, output_tokens=3))
    finally:
        peer.close()
    assert [[len(turn.ids) for turn in session] for session in answer.turns] == [[3, 3], [3, 3]]
    assert answer.peak_mb > 0


def test_the_bare_model_computes_a_conversation_turn_by_turn(tmp_path: Path):
    assert REFERENCE.bare is not None
    peer = PeerProcess(REFERENCE.bare, build_tiny_checkpoint(tmp_path / "tiny"), threads=1)
    try:
        answer = peer.converse(Conversation(system=[1, 2, 3], turns=[[[5, 6], [7]]], output_tokens=3))
    finally:
        peer.close()
    assert [len(session) for session in answer.turns] == [2]
    assert all(turn.first_seconds > 0 for turn in answer.turns[0])


def test_a_model_that_cannot_be_loaded_is_a_reason_to_leave_the_peer_out(tmp_path: Path):
    with pytest.raises(PeerError, match="no model at"):
        PeerProcess(REFERENCE, tmp_path / "nothing.gguf", threads=1)


def test_a_peer_that_fails_says_why(tmp_path: Path):
    peer = PeerProcess(REFERENCE, build_tiny_checkpoint(tmp_path / "tiny"), threads=1)
    try:
        with pytest.raises(PeerError, match="out of range"):
            peer.converse(Conversation(system=[], turns=[[[10**6]]], output_tokens=1))
    finally:
        peer.close()
