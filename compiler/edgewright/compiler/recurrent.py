"""`--state IN=OUT`: models whose state the device keeps between the steps of a sequence.

A data file holds inputs, seldom states. Calibrated on zeros, an int8 state would saturate at its first step; so every
sample is given the state that the float model has after the samples before it in the file, from zero: the file's order
counts as time. Whoever has recorded states gives them as arrays, and they are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import StatePair
from edgewright.targets.faults import UserFault

from .data import LABELS, ONLY_INPUT, SPLIT, Arrays
from .graph import Graph, Port, signature
from .lower.model_file import discard, write_model
from .lower.onnxruntime import Arithmetic, open_session, run
from .scratch import Scratch

REMEMBERED_STEPS = 8
"""So many samples before one have a say in its state; each costs a run of the float model over the data."""


class StateError(UserFault):
    """`--state` does not fit the model."""


def state_pairs(given: tuple[str, ...], graph: Graph) -> tuple[StatePair, ...]:
    """The pairs in words such as `h_in=h_out`, checked against the model.

    Raises:
        StateError: not two names, not the model's, or of different types and shapes.
    """
    pairs = tuple(_pair(text) for text in given)
    found = signature(graph)
    inputs, outputs = ({port.name: port for port in ports} for ports in (found.inputs, found.outputs))
    for pair in pairs:
        before, after = inputs.get(pair.input), outputs.get(pair.output)
        if before is None or after is None:
            raise StateError(
                f"--state {pair.input}={pair.output}: the model has inputs {sorted(inputs)}, outputs {sorted(outputs)}"
            )
        _check(pair, before, after)
    for role, names, ports in (
        ("input", [pair.input for pair in pairs], inputs),
        ("output", [pair.output for pair in pairs], outputs),
    ):
        if len(set(names)) < len(names):
            raise StateError(f"--state: an {role} is in two pairs: {names}")
        if names and len(names) == len(ports):
            raise StateError(f"--state: every {role} of the model is a state; clients need one that is not")
    return pairs


def _pair(text: str) -> StatePair:
    given, equals, kept = text.partition("=")
    if not (given and equals and kept):
        raise StateError(f"--state {text}: expected INPUT=OUTPUT, such as h_in=h_out")
    return StatePair(input=given, output=kept)


def _check(pair: StatePair, before: Port, after: Port) -> None:
    where = f"--state {pair.input}={pair.output}"
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        raise StateError(
            f"{where}: {before.dtype} {list(before.shape)} and {after.dtype} {list(after.shape)}; expected the same. "
            "Declare the shapes when the model is exported"
        )
    if not before.shape or any(size < 0 for size in before.shape[1:]):
        raise StateError(
            f"{where}: shape {list(before.shape)}; expected the batch as its first axis and fixed sizes behind it. "
            "Transpose it in the model"
        )


def with_zero_states(arrays: Arrays, pairs: tuple[StatePair, ...], graph: Graph, names: tuple[str, ...]) -> Arrays:
    """The arrays of a data file, and zeros for states that it does not hold; `names` are what clients send."""
    missing = tuple(pair for pair in pairs if pair.input not in arrays)
    if not missing:
        return arrays
    ports = {port.name: port for port in signature(graph).inputs}
    found = dict(arrays)
    others = [name for name in names if name not in {pair.input for pair in pairs}]
    if len(others) == 1 and others[0] not in found and ONLY_INPUT in found:
        found[others[0]] = found.pop(ONLY_INPUT)
    inputs = [array for name, array in found.items() if name not in {LABELS, SPLIT} and array.ndim]
    count = len(inputs[0]) if inputs else 0
    for pair in missing:
        port = ports[pair.input]
        found[pair.input] = np.zeros((count, *port.shape[1:]), port.dtype.numpy())
    return found


def reached_states(
    graph: Graph, inputs: Mapping[str, NDArray[Any]], pairs: tuple[StatePair, ...], scratch: Scratch
) -> Arrays:
    """For each sample the state after the `REMEMBERED_STEPS` samples before it, by the float model, from zero.

    Args:
        graph: the model.
        inputs: all of its inputs in the order of the file; of states, the zeros.
        pairs: the states to find.
        scratch: for large models.
    """
    model = write_model(graph, scratch)
    try:
        session = open_session(model, Arithmetic.ENGINE)
        found = dict(inputs)
        for _ in range(REMEMBERED_STEPS):
            outputs = run(session, found)
            for pair in pairs:
                shifted = np.zeros_like(found[pair.input])
                shifted[1:] = outputs[pair.output][:-1]
                found[pair.input] = shifted
    finally:
        discard(model)
    return {pair.input: found[pair.input] for pair in pairs}
