"""What gives way on the device comes back from host memory, to its own scope alone, and nothing else does."""

from __future__ import annotations

import pytest
import torch

from agentkit.errors import ConfigurationError
from agentkit.inference.config import EngineConfig
from agentkit.inference.kv_cache import KVCache
from agentkit.inference.kv_host import HostTier
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.loading import HOST_KV_BYTES, new_host_tier
from tests.inference.calling import greedy_ids, token_ids
from tests.inference.scheduling import drain, drawn, generation, new_scheduler
from tests.inference.test_kv_cache import compute, computed, content, run_once

PAGE = 4

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def cache_with(*, num_pages: int, host_pages: int, **pool) -> KVCache:
    sizes = {"num_layers": 1, "num_kv_heads": 1, "head_dim": 1, **pool}
    pages = PagePool(num_pages=num_pages, page_tokens=PAGE, **sizes)
    return KVCache(pages, "a model", host=HostTier(pages, "a model", num_pages=host_pages))


def host_of(cache: KVCache) -> HostTier:
    assert cache.host is not None
    return cache.host


def fill(cache: KVCache, start: int = 1000) -> None:
    """Use every page for something else."""
    run_once(cache, range(start, start + cache.pool.capacity), scope="filler")


def test_what_gave_way_is_brought_back_to_the_token_and_reads_the_same():
    cache = cache_with(num_pages=6, host_pages=20)
    run_once(cache, range(18))
    fill(cache)
    assert cache.tree.match(tuple(range(18)), scope="").tokens == 0
    assert cache.matched_tokens(range(18), scope="") == 18
    kv, miss = cache.open([*range(18), 99], scope="")
    assert (kv.length, content(kv)) == (18, computed(range(18)))
    assert miss is not None
    assert (miss.at, miss.reason) == (18, "new")
    stats = host_of(cache).stats()
    assert (stats.hits, stats.returned_pages) == (1, 5)
    assert cache.reserve(kv, 20)
    compute(kv, [*range(18), 99, 98])
    assert content(kv) == computed([*range(18), 99, 98])


def test_no_more_is_brought_back_than_others_leave():
    cache = cache_with(num_pages=8, host_pages=40)
    run_once(cache, range(100, 132))
    fill(cache)
    run_once(cache, range(8), scope="mine")
    mine, _ = cache.open(range(8), scope="mine")
    assert cache.reserve(mine, 12)
    compute(mine, range(12))
    cache.share(mine, range(12), scope="mine", public_tokens=0, disposable=False)
    run_once(cache, range(8), scope="other", public=8)
    # The page that is in use now lies behind two that only the tree holds, and that have to stay for it.
    assert cache.matched_tokens(range(12), scope="mine") == 12
    kv, _ = cache.open(range(100, 132), scope="")
    assert kv.length == 3 * PAGE
    assert content(kv) == computed(range(100, 112))


def test_only_what_the_device_lacks_is_copied():
    cache = cache_with(num_pages=10, host_pages=40)
    run_once(cache, range(20))
    cache.tree.evict(2, leaving=host_of(cache).keep)
    kv, _ = cache.open(range(20), scope="")
    assert (kv.length, host_of(cache).stats().returned_pages) == (20, 2)
    kv.close()
    cache.tree.evict(5, leaving=host_of(cache).keep)  # all of it is there already
    assert len(host_of(cache).tree.nodes) == 5


def test_a_prompt_that_leaves_what_is_kept_gets_its_beginning():
    cache = cache_with(num_pages=6, host_pages=20)
    run_once(cache, range(18))
    fill(cache)
    kv, miss = cache.open([*range(10), 77, 78, 79], scope="")
    assert (kv.length, content(kv)) == (10, computed(range(10)))
    assert miss is not None
    assert miss.reason == "changed"


def test_scopes_never_share_what_is_in_host_memory_but_for_what_is_public():
    cache = cache_with(num_pages=6, host_pages=40)
    run_once(cache, range(16), scope="alice", public=8)
    fill(cache)
    kv, miss = cache.open(range(16), scope="bob")
    assert kv.length == 8
    assert miss is not None
    assert miss.reason == "new"
    kv.close()
    assert cache.matched_tokens(range(16), scope="carol") == 8
    assert cache.matched_tokens(range(16), scope="alice") == 16


@pytest.mark.parametrize("keep", [0, 3, 4, 9, 16])
def test_what_was_forgotten_does_not_come_back(keep):
    cache = cache_with(num_pages=6, host_pages=40)
    run_once(cache, range(16))
    run_once(cache, [*range(10), 50, 51])
    fill(cache)
    cache.forget(range(16), keep=keep, scope="")
    assert cache.open(range(16), scope="")[0].length == keep
    assert cache.matched_tokens([*range(10), 50, 51], scope="") == (12 if keep >= 10 else keep)


def test_host_memory_stays_within_its_bytes_and_loses_the_least_recently_used():
    cache = cache_with(num_pages=5, host_pages=10)
    for start in (0, 100, 200, 300):
        run_once(cache, range(start, start + 20))
        assert host_of(cache).stats().cached_bytes <= 10 * cache.pool.page_bytes
    assert cache.matched_tokens(range(20), scope="") == 0
    assert cache.matched_tokens(range(100, 120), scope="") == 20
    fill(cache)
    assert cache.matched_tokens(range(300, 320), scope="") == 20


def test_where_there_is_no_room_for_a_whole_sequence_its_beginning_is_kept():
    cache = cache_with(num_pages=8, host_pages=3)
    run_once(cache, range(30))
    fill(cache)
    assert cache.matched_tokens(range(30), scope="") == 12


def test_a_pinned_sequence_stays_on_the_device():
    cache = cache_with(num_pages=10, host_pages=10)
    run_once(cache, range(16))
    pin = cache.pin(range(16), scope="")
    run_once(cache, range(500, 522))
    run_once(cache, range(600, 622))
    assert cache.tree.match(tuple(range(16)), scope="").tokens == 16
    cache.unpin(pin)


def test_it_comes_back_as_far_as_there_is_room():
    cache = cache_with(num_pages=6, host_pages=20)
    run_once(cache, range(20))
    fill(cache)
    running, _ = cache.open([], scope="")
    assert cache.reserve(running, 12)
    kv, _ = cache.open(range(20), scope="")
    assert (kv.length, content(kv)) == (12, computed(range(12)))


def test_what_is_being_brought_back_is_not_overwritten_by_what_gives_way_for_it():
    cache = cache_with(num_pages=6, host_pages=4)
    run_once(cache, range(16))
    fill(cache)
    kv, _ = cache.open(range(16), scope="")  # takes the place of the filler, and host memory is full
    assert content(kv) == computed(range(16))
    assert kv.length == 16


def test_clearing_gives_back_host_memory_too():
    cache = cache_with(num_pages=6, host_pages=20)
    run_once(cache, range(18))
    fill(cache)
    cache.clear()
    assert host_of(cache).stats().cached_bytes == 0
    assert host_of(cache).pages.free_pages == 20


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bit_comes_back(dtype, device):
    cache = cache_with(
        num_pages=6, host_pages=20, num_layers=3, num_kv_heads=2, head_dim=8, dtype=dtype, device=device
    )
    keys, values = torch.randn(2, 3, 2, 18, 8).to(device, dtype).unbind()
    cache.write(range(18), keys, values, scope="")
    for start in (100, 200):
        others = torch.full_like(keys, start)
        cache.write(range(start, start + 18), others, others, scope="")
    assert cache.tree.match(tuple(range(18)), scope="").tokens == 0
    again = cache.read(range(18), scope="")
    assert torch.equal(again[0], keys)
    assert torch.equal(again[1], values)


def test_sessions_that_outgrow_the_pool_prefill_only_what_is_new_and_say_the_same(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=20, host_pages=100)
    conversations = [token_ids(60, start=number) for number in range(4)]
    for turn in range(3):
        for index, prompt in enumerate(conversations):
            request = generation(prompt, max_tokens=6, scope=f"session {index}")
            scheduler.submit(request)
            drain(scheduler)
            assert drawn(request) == greedy_ids(tiny_model, prompt, 6)
            usage = request._mailbox.received[-1].usage  # type: ignore[attr-defined]
            # Of an output, the last token was never computed.
            assert usage.cached_tokens == (len(prompt) - 6 if turn else 0)
            conversations[index] = [*prompt, *drawn(request), *token_ids(5, start=turn)]
    stats = scheduler.stats().host
    assert stats is not None
    assert 0 < stats.hits <= stats.returned_pages
    assert 0 < stats.cached_bytes <= 100 * scheduler.cache.pool.page_bytes


# What an engine takes. A pool on the device "meta" is not in host memory, as one on a GPU, and has no content.


def pool_on(device: str) -> PagePool:
    return PagePool(num_pages=4, page_tokens=4, num_layers=1, num_kv_heads=1, head_dim=32, device=device)


def test_behind_a_gpu_there_are_so_many_bytes_and_behind_a_cpu_none():
    page_bytes = pool_on("meta").page_bytes
    tier = new_host_tier(EngineConfig(host_kv_bytes=3 * page_bytes + 1), pool_on("meta"), "a model")
    assert tier is not None
    assert tier.pages.num_pages == 3
    default = new_host_tier(EngineConfig(), pool_on("meta"), "a model")
    assert default is not None
    assert default.pages.num_pages == HOST_KV_BYTES // page_bytes
    assert new_host_tier(EngineConfig(host_kv_bytes=0), pool_on("meta"), "a model") is None
    assert new_host_tier(EngineConfig(), pool_on("cpu"), "a model") is None


@pytest.mark.parametrize(
    ("device", "host_kv_bytes", "message"),
    [
        ("cpu", 1 << 20, "host_kv_bytes is 1048576, but on cpu the KV cache is in host memory already"),
        ("meta", 10, "host_kv_bytes is 10, one page of 4 tokens takes 1024"),
        ("meta", 1 << 60, "which cannot be pinned here; set a smaller one, or 0"),
    ],
)
def test_an_amount_that_makes_no_sense_is_refused(device, host_kv_bytes, message):
    with pytest.raises(ConfigurationError, match=message):
        new_host_tier(EngineConfig(host_kv_bytes=host_kv_bytes), pool_on(device), "a model")


async def test_an_engine_on_a_cpu_says_to_raise_its_cache_instead(open_engine):
    with pytest.raises(ConfigurationError, match="raise kv_cache_bytes instead"):
        open_engine(host_kv_bytes=1 << 20, device="cpu")
    with pytest.raises(ConfigurationError, match="host_kv_bytes must be at least 0, got -1"):
        EngineConfig(host_kv_bytes=-1)
    assert (await open_engine().stats()).host is None
