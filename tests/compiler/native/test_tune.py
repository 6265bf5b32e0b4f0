"""Tuning: keys by shape, choices that are kept, time that is kept to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgewright.compiler.lower.native.kernels.families import tiles_of
from edgewright.compiler.lower.native.machine import machine_for
from edgewright.compiler.lower.native.net import Dense, Tensor
from edgewright.compiler.lower.native.shape_key import shape_key
from edgewright.compiler.lower.native.tune import MAX_PACKED_BYTES, Choice, affordable_tiles, chosen_tile, tune
from edgewright.compiler.lower.native.work import work
from tests.compiler.native.single_layer import HERE, PLAIN


def dense(rows: int = 24, depth: int = 8, channels: int = 16, seed: int = 0) -> Dense:
    weight = np.random.default_rng(seed).normal(size=(channels, depth)).astype(np.float32)
    return Dense(x=Tensor(f"x{seed}", (rows, depth)), y=Tensor(f"y{seed}", (rows, channels)), weight=weight)


def test_names_and_weights_do_not_count_but_shapes_and_machines_do() -> None:
    key = shape_key(dense(), HERE)
    assert key == shape_key(dense(seed=1), HERE)
    others = [shape_key(dense(rows=25), HERE), shape_key(dense(channels=17), HERE), shape_key(dense(), PLAIN)]
    signed = replace(dense(), x_zero_point=3)
    assert len({key, *others, shape_key(signed, HERE)}) == 5


def test_the_fastest_tile_of_each_shape_is_found_once() -> None:
    found = tune([dense(), dense(seed=1), dense(rows=5)], HERE, {}, limit_s=60)
    assert len(found) == 2
    for layer in (dense(), dense(rows=5)):
        choice = found[shape_key(layer, HERE)]
        assert choice.nanoseconds > 0
        assert str(chosen_tile(layer, HERE, found)) == choice.tile
    assert tune([dense()], HERE, found, limit_s=60) == {}


def test_without_time_nothing_is_chosen_and_the_best_guess_stands() -> None:
    assert tune([dense()], HERE, {}, limit_s=0, clock=iter(range(100)).__next__) == {}
    assert chosen_tile(dense(), HERE, {}) == tiles_of(dense(), HERE)[0]


def test_a_choice_that_is_not_offered_any_more_is_not_taken() -> None:
    stale = {shape_key(dense(), HERE): Choice("dense(positions=99, vectors=99)", 1.0)}
    assert chosen_tile(dense(), HERE, stale) == tiles_of(dense(), HERE)[0]


def test_work_counts_multiplications() -> None:
    assert work(dense()) == 24 * 8 * 16


def test_every_known_machine_has_a_guess() -> None:
    for arch, isa in (
        ("x86_64", "avx avx2 fma f16c"),
        ("x86_64", "avx avx2 fma f16c avx_vnni"),
        ("aarch64", "fp asimd"),
        ("aarch64", "fp asimd asimddp i8mm"),
        ("armv7l", "neon vfpv4"),
        ("armv7l", "neon"),
    ):
        assert tiles_of(dense(), machine_for(arch, frozenset(isa.split())))  # type: ignore[arg-type]


def test_large_weights_are_not_packed_for_every_tile() -> None:
    few = dense(depth=MAX_PACKED_BYTES // 4 // 64 // 2, channels=64)
    assert affordable_tiles(few, HERE) == tiles_of(few, HERE)[:2]
    one = dense(depth=MAX_PACKED_BYTES // 4, channels=2)
    assert tune([one], HERE, {}, limit_s=60) == {}
