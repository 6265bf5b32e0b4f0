"""The warm-up: every batch size before a model serves, within its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewright.bundle.manifest import Manifest
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.runtime.server.loading import load_bundle
from edgewright.runtime.server.warm_up import BATCHES_S, SINGLE_S, warm_up
from tests.runtime.server.schedule.engines_in_memory import MemoryEngine, Tensors, doubled, manifest_of, tensor
from tests.runtime.small_bundle import SmallBundle

ROW = {"x": np.zeros((1, 2), np.float32)}


@pytest.fixture
def manifest(digits_like_bundle: SmallBundle) -> Manifest:
    return manifest_of(digits_like_bundle.manifest)


def test_every_size_is_run_and_measured(manifest: Manifest) -> None:
    engine = MemoryEngine()
    points = warm_up(engine, manifest, ROW, 24)
    assert [rows for rows, _ in points] == [1, 2, 4, 8, 16, 24]
    assert set(engine.calls) == {1, 2, 4, 8, 16, 24}
    assert all(seconds > 0 for _, seconds in points)


@pytest.mark.parametrize(("row_s", "expected"), [(0.001, 32), (0.02, 2), (0.3, 1)])
def test_it_takes_no_long_time(manifest: Manifest, row_s: float, expected: int) -> None:
    now_s = 0.0

    def slow(inputs: Tensors) -> dict[str, Any]:
        nonlocal now_s
        now_s += row_s * len(inputs["x"])
        return doubled(inputs)

    points = warm_up(MemoryEngine(slow), manifest, ROW, 32, lambda: now_s)
    assert points[-1][0] == expected
    assert now_s <= SINGLE_S + BATCHES_S + 4 * row_s + 0.05


def test_a_batch_that_the_engine_refuses_is_left_out(manifest: Manifest) -> None:
    def small(inputs: Tensors) -> dict[str, Any]:
        if len(inputs["x"]) > 4:
            raise MemoryError
        return doubled(inputs)

    assert [rows for rows, _ in warm_up(MemoryEngine(small), manifest, ROW, 32)] == [1, 2, 4]


def test_a_fixed_batch_has_one_size(manifest: Manifest) -> None:
    fixed = manifest_of(manifest, (tensor("x", 1, 2),), (tensor("y", 1, 2),))
    assert [rows for rows, _ in warm_up(MemoryEngine(), fixed, ROW, 32)] == [1]


def test_a_loaded_bundle_has_all_its_sizes(digits_like_bundle: SmallBundle) -> None:
    loaded = load_bundle(digits_like_bundle.directory, LoadOptions(), 32)
    assert [rows for rows, _ in loaded.warm_up] == [1, 2, 4, 8, 16, 32]
    assert loaded.p50_s == loaded.warm_up[0][1]
    loaded.instance.close()
