"""Figures, targets and the report of an engine benchmark."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks.engines.agreement import agreement
from benchmarks.engines.plot import plot
from benchmarks.engines.report import report
from benchmarks.engines.targets import advantage, outcomes
from benchmarks.engines.workloads import QUICK
from benchmarks.peers.protocol import Answer, Turn
from tests.benchmarks.runs import answer, run, sample


def figure(question: str, *samples: tuple[str, Answer]) -> float:
    of = run(*(sample("agentkit", workload, given) for workload, given in samples))
    return of.figures[question]["agentkit"]


def test_decoding_is_counted_from_the_first_token_on():
    assert figure("decode", ("decode", answer(first=0.5, seconds=1.0, ids=5))) == pytest.approx(8.0)


def test_prefill_is_the_prompt_by_the_time_to_the_first_token():
    assert figure("prefill 512", ("prefill 512", answer(first=2.0, seconds=2.0))) == pytest.approx(256.0)


def test_the_agent_workload_is_the_system_prompt_and_all_turns():
    assert figure("agent", ("agent", answer(seconds=2.0, turns=8))) == pytest.approx(17.0)


def test_concurrent_sessions_are_compared_with_one_by_throughput():
    one, many = answer(seconds=1.0, turns=2), answer(seconds=2.0, turns=2, sessions=8)
    assert figure("sessions / one", ("agent", one), ("sessions", many)) == pytest.approx(4.0)


def test_a_warm_turn_is_compared_with_the_bare_model_on_its_new_tokens():
    warm, bare, cold = answer(first=0.6, turns=3), answer(first=0.4, turns=3), answer(first=0.2)
    samples = ("agent", warm), ("forward", bare), ("prefill 151", cold)
    assert figure("warm / forward", *samples) == pytest.approx(1.5)
    assert figure("cold first token", *samples) == pytest.approx(200.0)


def test_the_memory_of_a_bare_model_is_not_the_engines():
    bare = replace(answer(turns=2), peak_mb=9_000.0)
    assert figure("peak memory", ("agent", answer(turns=2)), ("forward", bare)) == pytest.approx(100.0)


def test_a_figure_is_the_median_of_the_rounds():
    rounds = [answer(first=first, seconds=first) for first in (9.0, 1.0, 2.0)]
    assert figure("prefill 512", *(("prefill 512", given) for given in rounds)) == pytest.approx(256.0)


def test_an_advantage_is_above_one_where_agentkit_is_the_better_one():
    fast, slow = answer(first=0.1, seconds=1.1, turns=2), answer(first=0.1, seconds=2.1, turns=2)
    of = run(
        sample("agentkit", "decode", fast),
        sample("agentkit", "agent", fast),
        sample("openvino", "decode", slow),
        sample("openvino", "agent", slow),
    )
    by_name = {question.name: question for question in of.questions}
    for name in ("decode", "agent"):
        found = advantage(by_name[name], of.figures, "agentkit", "openvino")
        assert found is not None
        assert found > 1


def test_a_target_is_met_or_missed_by_its_bound_and_absent_where_it_was_not_measured():
    of = run(
        sample("agentkit", "decode", answer(first=0.0, seconds=1.0)),
        sample("transformers", "decode", answer(first=0.0, seconds=1.9)),
        sample("openvino", "decode", answer(first=0.0, seconds=1.1)),
    )
    found = {outcome.target.rival: outcome.met for outcome in outcomes(of.questions, of.figures)}
    assert found == {"transformers": False, "openvino": True}


def test_tokens_agree_up_to_a_sessions_first_difference():
    def given(*ids: int) -> Answer:
        turn = Turn(ids=list(ids), first_seconds=0.1, seconds=0.2)
        return Answer(turns=[[turn]], system_seconds=0.0, turns_seconds=0.2, peak_mb=1.0)

    wanted = [given(1, 2, 3), given(1, 2, 3)]
    found = agreement([given(1, 2, 3), given(1, 9, 3)], wanted)
    assert (found.alone, found.together, found.of) == (3, 1, 3)


def test_the_report_names_engines_agreement_targets_and_who_was_left_out():
    of = run(
        sample("agentkit", "decode", answer()),
        sample("openvino", "decode", answer()),
        left_out={"vllm": "not installed (make bench-peers)"},
    )
    text = report(of)
    assert "192/192" in text
    assert "64/192" in text
    assert "agentkit over openvino: decode" in text
    assert "left out: vllm: not installed (make bench-peers)" in text


def test_tiny_workloads_are_held_to_no_target():
    samples = (sample("agentkit", "decode", answer()), sample("openvino", "decode", answer()))
    assert "target" not in report(run(*samples, sizes=QUICK))


def test_a_run_on_a_busy_machine_says_so():
    assert "NOISY" in run(sample("agentkit", "decode", answer(), load=5.0)).caption
    assert "NOISY" not in run(sample("agentkit", "decode", answer(), load=2.0)).caption


def test_engines_that_had_fewer_rounds_than_others_say_so():
    rounds = [sample("agentkit", "decode", answer(), number=number) for number in range(3)]
    of = run(*rounds, sample("agentkit", "agent", answer(turns=2)), sample("openvino", "decode", answer()))
    assert of.num_rounds == {"agentkit": {"decode": 3, "agent": 1}, "openvino": {"decode": 1}}
    assert "1 to 3" in report(of)


def test_the_json_has_every_sample():
    of = run(sample("agentkit", "decode", answer(), number=3))
    assert json.loads(of.as_json())["samples"][0]["round"] == 3


def test_the_plot_has_a_bar_for_every_figure():
    of = run(sample("agentkit", "decode", answer()), sample("openvino-int8", "decode", answer()))
    bars = ElementTree.fromstring(plot(of)).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + sum(len(figures) for figures in of.figures.values())
