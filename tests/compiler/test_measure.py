"""Timing in rounds, and its replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler import measure
from edgewright.compiler.faults import ReplayError
from edgewright.compiler.graph import serialize
from edgewright.compiler.metrics import Estimate

ROUNDS = st.lists(st.integers(1, 10**9), min_size=1, max_size=60)


@given(ROUNDS)
def test_median_lies_in_its_interval(rounds: list[int]) -> None:
    found = measure.summarise(rounds)
    assert found.low <= found.value <= found.high


@given(ROUNDS)
def test_a_model_is_not_faster_than_itself(rounds: list[int]) -> None:
    assert measure.ratio(rounds, rounds) == Estimate(1.0, 1.0, 1.0)


def test_ratio_and_medians_that_contradict_each_other_prove_nothing() -> None:
    # The machine halves its speed now and then; the candidate is hit more often.
    baseline, candidate = [100] * 6 + [300] * 5, [90] * 5 + [250] * 6
    assert measure.ratio(candidate, baseline).high > 1


def test_rounds_interleave_and_use_the_clock(model_path: Path) -> None:
    model = model_path.read_bytes()
    ticks = iter(range(0, 10**12, 1_000_000))
    sample = {"x": np.zeros((1, 1, 8, 8), dtype=np.float32)}
    rounds = measure.measure({"a": model, "b": model}, sample, 1, clock_ns=lambda: next(ticks))
    assert rounds["a"] == rounds["b"] == (1_000_000,) * measure.MAX_ROUNDS


def test_record_round_trips_and_knows_what_it_is_for(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    name = measure.key(b"model", "sha256:b", 1)
    recorded = measure.Measurements(rounds_ns={name: (3, 4)})
    path.write_bytes(measure.encode(recorded))
    assert measure.read(path) == recorded
    assert measure.replayed(recorded, [name], path) == {name: (3, 4)}
    with pytest.raises(ReplayError, match="another model"):
        measure.replayed(recorded, [measure.key(b"model", "sha256:b", 2)], path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"format_version": 2}', b'{"rounds_ns": {"a": []}}', b'{"rounds_ns": {"a": [0]}}', b'{"x": 1}'],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match=r"m\.json"):
        measure.read(path)


def test_serialization_is_stable(model_path: Path) -> None:
    import onnx

    assert serialize(onnx.load(model_path)) == serialize(onnx.load(model_path))
