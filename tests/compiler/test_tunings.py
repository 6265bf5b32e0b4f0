"""Which tiles a build uses: recorded ones before cached ones before timed ones; half-precision weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.cache import Cache
from edgewright.compiler.lower.native.half_weights import LEAST_BYTES, with_half_weights
from edgewright.compiler.lower.native.machine import machine_for, machine_of
from edgewright.compiler.lower.native.net import Dense, Net, Tensor
from edgewright.compiler.lower.native.shape_key import shape_key
from edgewright.compiler.lower.native.tune import Choice
from edgewright.compiler.tunings import Tunings
from edgewright.targets.host import detect_host
from tests.compiler.native.single_layer import HERE

HOST = detect_host()
OTHER = machine_for("aarch64", frozenset({"fp", "asimd"}))


def net(rows: int = 24, depth: int = 8, channels: int = 16, scale: float = 1.0) -> Net:
    x, y = Tensor("x", (rows, depth)), Tensor("y", (rows, channels))
    weight = (np.random.default_rng(0).normal(size=(channels, depth)) * scale).astype(np.float32)
    return Net((x,), (y,), (Dense(x=x, y=y, weight=weight, origin="dense"),))


def cache(folder: Path) -> Cache:
    return Cache(folder / "cache", pytest.fail)


def test_what_was_timed_once_is_known_to_the_next_build(tmp_path: Path) -> None:
    first = Tunings(HOST, 30.0, None, cache(tmp_path))
    timed = first.choices([net()], HERE)
    assert set(timed) == {shape_key(net().layers[0], HERE)}
    again = Tunings(HOST, 30.0, None, cache(tmp_path)).choices([net()], HERE)
    assert again == timed  # to the nanosecond: not timed again


def test_a_record_is_taken_as_it_is_and_nothing_is_timed() -> None:
    key = shape_key(net().layers[0], HERE)
    recorded = {key: Choice("dense(recorded=1)", 1.0), "another net": Choice("x()", 1.0)}
    tunings = Tunings(HOST, 30.0, recorded, None)
    assert tunings.choices([net()], HERE) == tunings.used == {key: recorded[key]}


def test_another_machine_and_no_time_leave_the_best_guesses() -> None:
    assert Tunings(HOST, 30.0, None, None).choices([net()], OTHER) == {}
    assert Tunings(HOST, 0.0, None, None).choices([net()], HERE) == {}


def test_weights_that_one_row_reads_become_halves_in_every_entry() -> None:
    depth = LEAST_BYTES // 4 // 64
    one, eight = net(1, depth, 64), net(8, depth, 64)
    halved = with_half_weights({1: one, 8: eight}, machine_of(HOST))
    if not {"f16c", "asimd"} & set(HERE.isa):
        assert halved is None
        return
    assert halved is not None
    for found in halved.values():
        (layer,) = found.layers
        assert isinstance(layer, Dense)
        assert layer.weight.dtype == np.float16


@pytest.mark.parametrize(
    "nets",
    [
        {1: net(1, 8, 16)},  # too few
        {1: net(2, LEAST_BYTES, 1)},  # read once for two rows
        {1: net(1, LEAST_BYTES // 64, 64, scale=1e6)},  # beyond the largest half
    ],
)
def test_else_they_stay(nets: dict[int, Net]) -> None:
    assert with_half_weights(nets, HERE) is None


def test_a_machine_without_the_conversion_keeps_floats() -> None:
    depth = LEAST_BYTES // 4 // 64
    assert with_half_weights({1: net(1, depth, 64)}, replace(HERE, isa=())) is None
