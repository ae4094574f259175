"""The registry: names, options, and what is injected."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.shields import Shield, shield_names
from agentkit.shields.registry import BUILT_IN, find_shield, register_shield
from tests.shields.fakes import EngineUser, MarkerShield


async def no_engines(reference: object) -> Any:
    raise AssertionError(reference)


def test_a_shield_is_built_from_its_options() -> None:
    shield = find_shield("fake_marker").build({"marker": "X"})
    assert isinstance(shield, MarkerShield)
    assert shield.marker == "X"


def test_left_out_options_take_the_constructor_defaults_and_engines_are_injected() -> None:
    shield = find_shield("fake_engine_user").build({"model": "m", "categories": ["S6"]}, engines=no_engines)
    assert isinstance(shield, EngineUser)
    assert (shield.model, shield.threshold, shield.categories) == ("m", 0.5, ("S6",))
    assert shield.engines is no_engines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "m", "treshold": 1}, "unknown option 'treshold'; did you mean 'threshold'?"),
        ({"model": "m", "engines": "x"}, "unknown option 'engines'; valid: model, threshold, categories"),
        ({"model": "m", "threshold": 1.5}, "threshold must be less than or equal to 1, got 1.5"),
        ({"model": "m", "threshold": "0.9"}, "threshold must be a number, got '0.9'"),
        ({"model": "m", "threshold": float("nan")}, "threshold must be a finite number, got nan"),
        ({"model": "m", "threshold": None}, "threshold must be a number, got null"),
        ({"model": "m", "categories": "S1"}, "categories must be a list, got 'S1'"),
        ({"model": "m", "categories": ["S7"]}, "categories[0] cannot be 'S7'; valid: S1, S6"),
        ({"model": "m", "categories": ["S11"]}, "categories[0] cannot be 'S11'; did you mean 'S1'?"),
        ({}, "missing option 'model'"),
    ],
)
def test_wrong_options_name_the_value_and_the_bound_or_the_nearest_name(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_shield("fake_engine_user").build(options, engines=no_engines)
    assert str(caught.value) == message


def test_a_shield_without_a_constructor_takes_no_options() -> None:
    @register_shield("fake_plain")
    class Plain(Shield):
        pass

    assert isinstance(find_shield("fake_plain").build({}), Plain)
    with pytest.raises(ConfigurationError, match="unknown option 'level'; none is valid here"):
        find_shield("fake_plain").build({"level": 1})


def test_a_shield_that_needs_engines_is_not_built_without_them() -> None:
    with pytest.raises(ConfigurationError, match="'fake_engine_user' runs a model; pass engines="):
        find_shield("fake_engine_user").build({"model": "m"})


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="unknown shield 'lama_guard'; did you mean 'llama_guard'"):
        find_shield("lama_guard")
    assert set(BUILT_IN) <= set(shield_names())


@pytest.mark.parametrize("name", ["fake_marker", *BUILT_IN])
def test_a_name_can_be_taken_once_and_never_from_a_built_in_shield(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"a shield named '{name}' is already registered"):

        @register_shield(name)
        class Second(Shield):
            pass


def test_options_must_be_keyword_only_annotated_and_not_named_like_a_policys_own_keys() -> None:
    class Positional(Shield):
        def __init__(self, threshold: float) -> None: ...

    class Unannotated(Shield):
        def __init__(self, *, threshold=0.5) -> None: ...

    class Anything(Shield):
        def __init__(self, **options: Any) -> None: ...

    class OwnMode(Shield):
        def __init__(self, *, mode: str) -> None: ...

    for shield_class, message in (
        (Positional, "argument 'threshold' must be keyword-only"),
        (Unannotated, "argument 'threshold' needs a type annotation"),
        (Anything, "argument 'options' must be keyword-only"),
        (OwnMode, "argument 'mode' has a name that policies use themselves"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            register_shield("fake_refused")(shield_class)
    assert "fake_refused" not in shield_names()


def test_an_option_whose_type_cannot_be_read_says_so() -> None:
    class NotPlainData:
        pass

    @register_shield("fake_unreadable")
    class Unreadable(Shield):
        def __init__(self, *, level: NotPlainData) -> None: ...

    with pytest.raises(ConfigurationError, match="shield 'fake_unreadable': an option's type cannot be read"):
        find_shield("fake_unreadable").build({"level": 1})


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_shield_registers_under_its_name(name: str) -> None:
    assert find_shield(name).shield_class.__module__.startswith(BUILT_IN[name])


def test_importing_the_room_loads_no_shield_and_no_torch() -> None:
    code = "import sys, agentkit.shields; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for module in ("torch", "detect_secrets", *BUILT_IN.values()):
        assert module not in loaded.split()
