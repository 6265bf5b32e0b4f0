"""The device's self-test through the steps: raw samples, and what a client has to get.

A step that decides (argmax, top-k, NMS) makes a jump of a difference that any honest engine may have. So the test uses
samples whose decisions stand even where every output of the model is as far off as its tolerance allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.golden import Golden

from .faults import ModelError
from .lower.golden import golden_samples
from .processing import ClientSide

Outputs = Mapping[str, NDArray[Any]]

CANDIDATES = 64
"""Samples that are looked at."""
DRAWS = 4
"""Random outputs within the tolerance that each has to stand."""
JUMP = 64.0
"""A float that moves by more than so many tolerances has jumped: another box stands in its place."""
MARGIN = 2.0
"""Absolute tolerance of the test over the largest movement seen."""


def client_golden(side: ClientSide, model: Golden, exact: Outputs, batch: int | None) -> Golden:
    """The self-test of a bundle with steps.

    Args:
        side: the steps, and the data as clients send it.
        model: the self-test of the model alone; its tolerances count.
        exact: what exact arithmetic gives for the first samples of `tune`, `CANDIDATES` at most.
        batch: of a model that has it fixed.

    Raises:
        ModelError: no sample's decision is clear enough for a test.
    """
    count = len(next(iter(exact.values())))
    expected = {name: array for name, array in side.after(exact).items() if array.dtype.kind in "biuf"}
    moved = [side.after(_disturbed(exact, model, seed)) for seed in range(DRAWS)]
    stands = {name: _stands(array, [one[name] for one in moved], model) for name, array in expected.items()}
    kept, rows = _choice(stands)
    samples = golden_samples(side.data.tune, batch)
    places = np.resize(rows, len(samples))
    inputs = {name: array[:count][places] for name, array in side.data.tune.inputs.items()}
    outputs = {name: expected[name][places] for name in kept}
    movement = max(_movement(expected[name][rows], one[name][rows]) for name in kept for one in moved)
    return Golden(
        inputs=inputs,
        outputs=outputs,
        relative_tolerance=model.relative_tolerance,
        absolute_tolerance=float(f"{max(MARGIN * movement, 1e-6):.3g}"),
    )


def _disturbed(exact: Outputs, model: Golden, seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    found = {}
    for name, array in exact.items():
        if array.dtype.kind != "f":
            found[name] = array
            continue
        wide = array.astype(np.float64)
        room = model.absolute_tolerance + model.relative_tolerance * np.abs(wide)
        found[name] = (wide + room * random.uniform(-1, 1, wide.shape)).astype(array.dtype)
    return found


def _stands(expected: NDArray[Any], moved: list[NDArray[Any]], model: Golden) -> NDArray[np.bool_]:
    """Of each row, whether it is the same in all draws, but for small movements of floats."""
    stands = np.ones(len(expected), np.bool_)
    room = np.zeros(1)
    if expected.dtype.kind == "f":
        room = JUMP * (model.absolute_tolerance + model.relative_tolerance * np.abs(expected.astype(np.float64)))
    for one in moved:
        near = np.abs(one.astype(np.float64) - expected.astype(np.float64)) <= room
        stands &= near.reshape(len(expected), -1).all(axis=1)
    return stands


def _choice(stands: dict[str, NDArray[np.bool_]]) -> tuple[list[str], NDArray[np.intp]]:
    """Outputs to test, and rows that stand in all of them; outputs that never stand are left out."""
    kept = [name for name, rows in stands.items() if rows.any()]
    while kept:
        rows = np.flatnonzero(np.logical_and.reduce([stands[name] for name in kept]))
        if len(rows):
            return kept, rows
        kept.remove(min(kept, key=lambda name: int(stands[name].sum())))
    raise ModelError(
        "the steps after the model decide so closely on every sample of `tune` that no self-test can be made of them; "
        "leave the last step to the client, or give samples that are clearer"
    )


def _movement(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
