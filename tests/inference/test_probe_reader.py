"""What a probe sees of a text: means of the model's own hidden states, of windows that leave nothing out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError, InferenceError
from agentkit.inference.engine import LocalEngine
from agentkit.inference.probe_head import ProbeHead
from agentkit.inference.probe_reader import ProbeReader, reader_for, window_starts
from agentkit.testing import ScriptedEngine

LAYERS = (1, 2)
TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all."


@given(length=st.integers(1, 500), size=st.integers(8, 64))
def test_windows_leave_no_token_out_and_no_short_span_undivided(length: int, size: int) -> None:
    starts = window_starts(length, size, size // 2)
    covered = {token for start in starts for token in range(start, min(start + size, length))}
    assert covered == set(range(length))
    for span in range(length - size // 2):  # whatever is half a window long is whole in some window
        assert any(start <= span and span + size // 2 <= start + size for start in starts)


async def test_a_short_text_is_one_mean_of_all_its_tokens(engine: LocalEngine) -> None:
    ids = engine.tokenizer.encode(TEXT)
    first = min(engine.tokenizer.eos_ids) if engine.tokenizer.bos_id is None else engine.tokenizer.bos_id
    states = await engine.early_states([first, *ids], LAYERS)
    means = await ProbeReader(engine, LAYERS, window=len(ids) + 8).read(TEXT)
    np.testing.assert_allclose(means, states[1:].mean(axis=0)[None], atol=1e-5)


async def test_windows_are_means_of_their_tokens(engine: LocalEngine) -> None:
    ids = engine.tokenizer.encode(TEXT)
    first = min(engine.tokenizer.eos_ids) if engine.tokenizer.bos_id is None else engine.tokenizer.bos_id
    states = (await engine.early_states([first, *ids], LAYERS))[1:]
    means = await ProbeReader(engine, LAYERS, window=8).read(TEXT)
    starts = window_starts(len(ids), 8, 4)
    assert len(means) == len(starts) > 2
    for mean, start in zip(means, starts, strict=True):
        np.testing.assert_allclose(mean, states[start : start + 8].mean(axis=0), atol=1e-5)


async def test_the_windows_over_a_span_are_those_that_change_with_it(open_engine) -> None:
    reader = ProbeReader(open_engine(context_length=32), LAYERS, window=8)
    text = "a b c d e f g h " * 8
    changed = text[:60] + "X Y" + text[63:]
    before, after = await reader.read(text), await reader.read(changed)
    over = reader.windows_over(changed, 60, 63)
    assert 0 < len(over) < len(after)
    assert not any(np.allclose(before[index], after[index], atol=1e-4) for index in over)
    first = min(over)
    np.testing.assert_allclose(before[:first], after[:first], atol=1e-5)  # what comes later has read it


async def test_a_text_beyond_the_context_is_read_in_pieces(open_engine) -> None:
    engine = open_engine(context_length=32)
    reader = ProbeReader(engine, LAYERS, window=16)
    alone = await reader.read(TEXT)
    means = await reader.read(TEXT * 20)
    np.testing.assert_allclose(means[0], alone[0], atol=1e-5)
    tokens = len(engine.tokenizer.encode(TEXT * 20))
    assert tokens > 32
    assert len(means) >= tokens / 16
    assert np.isfinite(means).all()


async def test_nothing_is_left_in_the_cache(open_engine) -> None:
    engine = open_engine()
    await ProbeReader(engine, LAYERS, window=16).read(TEXT)
    assert (await engine.stats()).cached_tokens == 0


async def test_an_empty_text_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(InferenceError, match="an empty text has no hidden states"):
        await ProbeReader(engine, LAYERS, window=16).read("")


async def test_a_window_longer_than_the_context_is_refused(open_engine) -> None:
    with pytest.raises(ConfigurationError, match="window is 64 tokens, the model's context has room for 30"):
        ProbeReader(open_engine(context_length=32), LAYERS, window=64)


def head(engine: LocalEngine, fingerprint: str) -> ProbeHead:
    weights = np.zeros((1, 4), np.float32)
    return ProbeHead(
        name="spam",
        model="tiny",
        fingerprint=fingerprint,
        layers=(1,),
        window=16,
        weights=weights,
        bias=0.0,
        threshold=0.5,
    )


def test_a_head_of_this_model_is_taken(engine: LocalEngine) -> None:
    assert isinstance(reader_for(head(engine, engine.fingerprint), engine, "tiny"), ProbeReader)


def test_a_head_of_another_model_is_refused(engine: LocalEngine) -> None:
    message = (
        r"the head 'spam' was fit on tiny \(aaaaaaaaaaaa\) and ./models/other is another model "
        rf"\({engine.fingerprint[:12]}\); fit a head for it with `agentkit probe fit`"
    )
    with pytest.raises(ConfigurationError, match=message):
        reader_for(head(engine, "a" * 64), engine, "./models/other")


def test_an_engine_without_hidden_states_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(
        ConfigurationError, match="m gives no hidden states; a probe needs a model that runs in this"
    ):
        reader_for(head(engine, engine.fingerprint), ScriptedEngine([]), "m")
