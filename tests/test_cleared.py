"""Cleared content: only the holder of the seal makes it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import anyio
import pytest

from agentkit.cleared import Cleared, Held, Seal, claim_seal, require_cleared
from agentkit.messages import USER
from agentkit.shields import Pipeline, Policy, ShieldInput, Stage

EVERYTHING_PASSES = "version: 1\nshields: {}\nstages:\n" + "".join(f"  {stage}: []\n" for stage in Stage)


@pytest.fixture
def cleared() -> Cleared[str]:
    async def judge() -> Cleared[str] | None:
        async with Pipeline(Policy.parse(EVERYTHING_PASSES)) as pipeline:
            content = ShieldInput(text="hello", stage=Stage.USER_INPUT, provenance=USER)
            return (await pipeline.judge(content)).cleared

    cleared = anyio.run(judge)
    assert cleared is not None
    return cleared


def test_the_seal_is_held_by_the_pipeline_and_cannot_be_claimed_again() -> None:
    with pytest.raises(RuntimeError, match=r"held by agentkit\.shields\.pipeline"):
        claim_seal("somebody else")


@pytest.mark.parametrize("seal", [None, object(), Seal(), "seal"])
def test_it_cannot_be_built_without_the_seal(seal: Any) -> None:
    with pytest.raises(TypeError, match="only the shield pipeline"):
        Cleared("text", seal=seal)
    with pytest.raises(TypeError):
        Cleared("text")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="only the shield pipeline"):
        Held("text", seal=seal)


def test_it_cannot_be_pickled_or_copied(cleared: Cleared[str]) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="judge the content again"):
            attempt(cleared)


def test_it_cannot_be_changed(cleared: Cleared[str]) -> None:
    for name in ("_value", "value", "other"):
        with pytest.raises(AttributeError):
            setattr(cleared, name, "changed")
    assert cleared.value == "hello"


def test_a_door_refuses_everything_else(cleared: Cleared[str]) -> None:
    class Forged(Cleared[str]):  # type: ignore[misc]  # it is final
        def __init__(self) -> None:
            pass

        @property
        def value(self) -> str:
            return "forged"

    class Lookalike:
        value = "forged"

    for forged in (Forged(), Lookalike(), "text", None):
        with pytest.raises(TypeError, match="this door takes only cleared content"):
            require_cleared(forged)  # type: ignore[arg-type]
    assert require_cleared(cleared) == "hello"


def test_the_refusal_does_not_quote_the_content() -> None:
    with pytest.raises(TypeError) as caught:
        require_cleared("a private sentence")  # type: ignore[arg-type]
    assert "private" not in str(caught.value)


def test_it_can_be_expressed_in_another_form_and_joined(cleared: Cleared[str]) -> None:
    length = cleared.map(len)
    assert require_cleared(length) == 5
    assert require_cleared(Cleared.all([cleared, cleared])) == ("hello", "hello")
    with pytest.raises(TypeError):
        Cleared.all([cleared, "text"])  # type: ignore[arg-type]


def test_its_repr_shows_the_kind_only(cleared: Cleared[str]) -> None:
    assert repr(cleared) == "Cleared(str)"
