"""The response cache: bounded in bytes and time, least recently used first, and the endpoint that asks it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.runtime.server.assembly import assemble
from edgewright.runtime.server.pipeline import Job, SequenceStep
from edgewright.runtime.server.request_key import request_key
from edgewright.runtime.server.response_cache import ENTRY_BYTES, ResponseCache
from edgewright.runtime.serving import ModelSettings
from tests.runtime.server.pipeline_stand_ins import Client, HeldModel


def key_of(**inputs: NDArray[Any]) -> bytes:
    return request_key(Job(inputs, 1, 0))


def test_equal_inputs_have_one_key_and_every_difference_makes_another() -> None:
    x = np.arange(6, dtype=np.int32)
    strided = np.arange(12, dtype=np.int32)[::2] // 2
    assert key_of(x=x, y=x) == key_of(y=x.copy(), x=strided)
    texts = np.array([b"ab", b"c"], object)
    others = [
        key_of(x=x),
        key_of(y=x),
        key_of(x=x.reshape(2, 3)),
        key_of(x=x.view(np.uint32)),
        key_of(x=x.view(np.float32)),
        key_of(x=x + 1),
        key_of(x=x[:3], y=x[3:]),
        key_of(x=texts),
        key_of(x=np.array([b"a", b"bc"], object)),
        key_of(x=np.array(1.0)),
    ]
    assert len(set(others)) == len(others)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400), st.floats(0, 3)), max_size=60))
def test_it_never_holds_more_than_its_bound_nor_gives_what_is_too_old(steps: list[tuple[int, int, float]]) -> None:
    cache, now_s = ResponseCache(4 * ENTRY_BYTES, ttl_s=5.0), 0.0
    kept: dict[bytes, tuple[int, float]] = {}
    for number, size, pause_s in steps:
        now_s += pause_s
        key = bytes([number])
        found = cache.get(key, now_s)
        if found is not None:
            put_size, put_s = kept[key]
            assert len(found["y"]) == put_size
            assert now_s < put_s + 5.0
        cache.put(key, {"y": np.zeros(size, np.uint8)}, now_s)
        kept[key] = (size, now_s)
        assert 0 <= cache.size_bytes <= 4 * ENTRY_BYTES
        assert cache.size_bytes >= len(cache) * ENTRY_BYTES
    cache.expire(now_s + 5.0)
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_the_least_recently_used_goes_first_and_what_never_fits_evicts_nobody() -> None:
    cache = ResponseCache(2 * (ENTRY_BYTES + 8), ttl_s=5.0)
    for name in (b"a", b"b"):
        cache.put(name, {"y": np.zeros(8, np.uint8)}, 0)
    assert cache.get(b"a", 1) is not None
    cache.put(b"c", {"y": np.zeros(8, np.uint8)}, 1)
    assert [cache.get(name, 1) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    cache.put(b"d", {"y": np.zeros(4096, np.uint8)}, 1)
    assert (len(cache), cache.evictions) == (2, 1)


def test_what_is_kept_is_a_copy_that_nobody_can_change() -> None:
    cache, batch = ResponseCache(10_000, ttl_s=5.0), np.ones((64, 4), np.float32)
    cache.put(b"a", {"y": batch[3:4]}, 0)
    batch[:] = 0  # an engine that uses its memory again
    found = cache.get(b"a", 0)
    assert found is not None
    assert found["y"].base is None
    np.testing.assert_array_equal(found["y"], np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="read-only"):
        found["y"][:] = 2


def cached(**settings: Any) -> tuple[HeldModel, Client]:
    model = HeldModel()
    wanted = ModelSettings(**{"cache_bytes": 10_000, **settings})
    return model, Client(assemble(model, wanted, moved=lambda *_: None).endpoint)


def test_a_hit_runs_nothing_and_is_counted() -> None:
    model, client = cached()
    client.ask(1)
    model.answer(7)
    client.ask(1)
    client.ask(2)
    assert len(model.held) == 1
    assert [float(outcome.outputs["y"][0]) for outcome in client.outcomes if outcome.outputs] == [7, 7]
    stats = model.statistics.as_json("digits", "1")["inference_stats"]
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"]) == (1, 1)
    assert stats["cache_hit"]["ns"] > 0
    assert len(model.shared) == 1
    assert client.outcomes[1].statistics is model.statistics


def test_failures_and_sequences_are_not_kept() -> None:
    model, client = cached()
    client.ask(1)
    model.refuse(500)
    client.ask(1)
    model.answer()
    for _ in range(2):
        client.ask(1, sequence=SequenceStep("s", start=False, end=False))
        model.answer()
    assert client.statuses == [500, 200, 200, 200]
    assert model.statistics.cache_hit.count == 0


def test_without_the_setting_there_is_no_cache() -> None:
    model, client = cached(cache_bytes=0)
    for _ in range(2):
        client.ask(1)
        model.answer()
    assert model.shared == []
    assert assemble(model, ModelSettings(), moved=lambda *_: None).cached is None


def test_old_answers_give_their_memory_back_without_being_asked_for() -> None:
    model = HeldModel()
    assembly = assemble(model, ModelSettings(cache_bytes=10_000, cache_ttl_s=0.001), moved=lambda *_: None)
    Client(assembly.endpoint).ask(1)
    model.answer()
    assert assembly.cached is not None
    time.sleep(0.01)
    assembly.tick()
    assert len(assembly.cached.cache) == 0
