"""Keys and values in a file: what comes back is what was saved, and nothing else is ever used."""

from __future__ import annotations

import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from agentkit.errors import InferenceError, KVFileError
from agentkit.inference.engine import LocalEngine
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.calling import fresh_scope, generate_all, greedy_ids, token_ids
from tests.inference.tiny import build_tiny_checkpoint

IDS = token_ids(100)


@pytest.fixture
async def saved(open_engine, tmp_path):
    """A file with the keys and values of `IDS`, of the scope "alice"."""
    path = tmp_path / "alice.kv"
    engine = open_engine()
    await generate_all(engine, IDS, "alice", max_tokens=1)
    assert await engine.save_kv(IDS, path, scope="alice") == len(IDS)
    return path


async def test_another_engine_starts_warm_and_says_the_same(open_engine, tiny_model, saved):
    engine = open_engine()
    assert await engine.load_kv(saved, [*IDS, 5, 6], scope="alice") == len(IDS)
    completion = await generate_all(engine, [*IDS, 5, 6], "alice", max_tokens=20)
    assert completion.usage.cached_tokens == len(IDS)
    assert list(completion.ids) == greedy_ids(tiny_model, [*IDS, 5, 6], 20)


async def test_pages_of_another_size_take_it_too(open_engine, tiny_model, saved):
    engine = open_engine(page_tokens=7)
    await generate_all(engine, IDS[:20], "alice", max_tokens=1)
    assert await engine.load_kv(saved, IDS, scope="alice") == len(IDS)
    completion = await generate_all(engine, [*IDS, 5], "alice", max_tokens=5)
    assert list(completion.ids) == greedy_ids(tiny_model, [*IDS, 5], 5)
    assert completion.usage.cached_tokens == len(IDS)


async def test_only_what_is_cached_is_saved_and_for_nothing_no_file_is_written(engine, tmp_path, scope):
    path = tmp_path / "a.kv"
    assert await engine.save_kv(IDS, path, scope=scope) == 0
    assert list(tmp_path.iterdir()) == []
    await generate_all(engine, IDS[:40], scope, max_tokens=1)
    assert await engine.save_kv(IDS, path, scope=scope) == 40
    assert list(tmp_path.iterdir()) == [path]
    await engine.forget(IDS, keep=0, scope=scope)
    assert await engine.load_kv(path, IDS, scope=scope) == 40
    assert (await generate_all(engine, IDS, scope, max_tokens=1)).usage.cached_tokens == 40


async def test_loading_never_shortens_what_is_cached(engine, tmp_path, scope):
    await generate_all(engine, IDS[:40], scope, max_tokens=1)
    await engine.save_kv(IDS, tmp_path / "a.kv", scope=scope)
    await generate_all(engine, IDS, scope, max_tokens=1)
    assert await engine.load_kv(tmp_path / "a.kv", IDS, scope=scope) == len(IDS)


async def test_a_file_says_nothing_of_the_ids_or_the_scope_and_is_for_its_owner_only(saved):
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"format", "identity", "scope", "tokens", "ids", "content"}
    assert "alice" not in "".join(metadata.values())
    assert str(IDS[0]) not in metadata.values()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


# What is not what it should be


async def refused(engine: LocalEngine, path, message: str, *, ids=IDS, scope="alice") -> None:
    """Check that a file is refused with one error, and that the engine serves on without it."""
    before = await engine.stats()
    with pytest.raises(KVFileError, match=message):
        await engine.load_kv(path, ids, scope=scope)
    assert await engine.stats() == before
    completion = await generate_all(engine, token_ids(5), fresh_scope(), max_tokens=2)
    assert len(completion.ids) == 2


async def test_the_file_of_another_scope_or_of_other_ids_is_refused(open_engine, saved):
    engine = open_engine()
    await refused(engine, saved, "belongs to another scope", scope="bob")
    await refused(engine, saved, "for other ids than these 100", ids=[*IDS[:-1], 11])
    await refused(engine, saved, "for other ids than these 99", ids=IDS[:-1])


async def test_the_file_of_another_model_is_refused(tmp_path, saved):
    other = await LocalEngine.load(str(build_tiny_checkpoint(tmp_path / "other", seed=1)))
    await refused(other, saved, "another model, dtype or rotary positions")
    await other.close()


async def test_a_model_without_a_fingerprint_takes_no_file_but_its_own(tiny_model, tiny_checkpoint, saved):
    engine = LocalEngine(tiny_model, load_tokenizer(tiny_checkpoint))
    await refused(engine, saved, "another model, dtype or rotary positions")
    await generate_all(engine, IDS, "alice", max_tokens=1)
    await engine.save_kv(IDS, saved, scope="alice")
    assert await engine.load_kv(saved, IDS, scope="alice") == len(IDS)
    await engine.close()


async def test_a_missing_file_and_one_that_is_none_of_ours_are_refused(open_engine, tmp_path):
    engine = open_engine()
    await refused(engine, tmp_path / "nothing.kv", "nothing.kv cannot be read: .*")
    (tmp_path / "text.kv").write_text("this is no safetensors file, but a text")
    await refused(engine, tmp_path / "text.kv", "text.kv cannot be read: .*")
    save_file({"keys": torch.zeros(1), "values": torch.zeros(1)}, tmp_path / "weights.safetensors")
    await refused(engine, tmp_path / "weights.safetensors", "has the format None, not 'agentkit-kv-1'")


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
async def test_a_truncated_file_is_refused(open_engine, saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    await refused(open_engine(), saved, "cannot be read")


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9999])
async def test_one_flipped_bit_of_the_content_is_refused(open_engine, saved, where):
    data = bytearray(saved.read_bytes())
    data[int(where * len(data))] ^= 1
    saved.write_bytes(data)
    await refused(open_engine(), saved, "is damaged: its content has another digest than it says")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": "99"}, "other ids"),
        ({"tokens": "-1"}, "other ids"),
        ({"tokens": "many"}, "other ids"),
        ({"content": None}, "no digest of its content"),
        ({"format": "agentkit-kv-2"}, "format 'agentkit-kv-2'"),
    ],
)
async def test_metadata_that_does_not_fit_is_refused(open_engine, saved, change, message):
    with safe_open(saved, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        metadata = {**file.metadata(), **change}
    save_file(tensors, saved, metadata={name: value for name, value in metadata.items() if value is not None})
    await refused(open_engine(), saved, message)


@pytest.mark.parametrize("names", [("keys",), ("keys", "other")])
async def test_tensors_that_are_missing_are_refused(open_engine, saved, names):
    with safe_open(saved, framework="pt") as file:
        keys, metadata = file.get_tensor("keys"), file.metadata()
    save_file({name: keys.clone() for name in names}, saved, metadata=metadata)
    await refused(open_engine(), saved, "cannot be read: .*values")


async def test_tensors_of_another_shape_or_dtype_are_refused(open_engine, saved):
    with safe_open(saved, framework="pt") as file:
        keys, metadata = file.get_tensor("keys"), file.metadata()
    for wrong in (keys[:1], keys[:, :, :50], keys.half()):
        save_file({"keys": wrong.contiguous(), "values": wrong.clone()}, saved, metadata=metadata)
        await refused(open_engine(), saved, r"its tensors are no torch.float32 of the shape \(2, 2, 100, 8\)")


async def test_where_no_file_can_be_written_the_error_says_so(engine, tmp_path, scope):
    await generate_all(engine, IDS, scope, max_tokens=1)
    with pytest.raises(KVFileError, match=r"KV file a[.]kv cannot be written"):
        await engine.save_kv(IDS, tmp_path / "missing" / "a.kv", scope=scope)
    (tmp_path / "folder.kv").mkdir()
    with pytest.raises(KVFileError, match=r"KV file folder[.]kv cannot be written"):
        await engine.save_kv(IDS, tmp_path / "folder.kv", scope=scope)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.kv"]


async def test_a_closed_engine_saves_and_loads_nothing(tiny_model, tiny_checkpoint, saved):
    engine = LocalEngine(tiny_model, load_tokenizer(tiny_checkpoint))
    await engine.close()
    for call in (engine.save_kv(IDS, saved), engine.load_kv(saved, IDS), engine.warm(IDS, saved)):
        with pytest.raises(InferenceError, match="the engine is closed"):
            await call


# Loaded or computed


async def test_ids_are_warmed_from_the_file_and_what_it_lacks_is_computed(open_engine, saved):
    engine = open_engine()
    warmth = await engine.warm([*IDS, 5, 6, 7], saved, scope="alice")
    assert (warmth.cached_tokens, warmth.loaded_tokens, warmth.computed_tokens) == (0, 100, 3)
    assert warmth.problem is None
    usage = (await generate_all(engine, [*IDS, 5, 6, 7, 8], "alice", max_tokens=1)).usage
    assert usage.cached_tokens == 103
    again = await engine.warm([*IDS, 5, 6, 7], saved, scope="alice")
    assert (again.cached_tokens, again.loaded_tokens, again.computed_tokens) == (103, 0, 0)


async def test_without_a_good_file_ids_are_computed_and_the_problem_is_named(open_engine, saved):
    engine = open_engine()
    saved.write_bytes(saved.read_bytes()[:-1])
    warmth = await engine.warm(IDS, saved, scope="alice")
    assert (warmth.loaded_tokens, warmth.computed_tokens) == (0, 100)
    assert "cannot be read" in str(warmth.problem)
    assert (await generate_all(engine, [*IDS, 5], "alice", max_tokens=1)).usage.cached_tokens == 100


async def test_loading_is_preferred_until_both_ways_were_measured(open_engine, saved):
    engine = open_engine()
    assert engine.prefers_loading()
    await generate_all(engine, IDS, max_tokens=1)
    assert engine.prefers_loading()
