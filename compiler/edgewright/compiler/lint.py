"""What is suspicious about the data, said before it costs accuracy. Each warning has its fix; nothing is refused.

Pure: everything is read from the divided data (in the model's types), the float graph and the calibration statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from . import mapped
from .data import Dataset
from .data_warning import DataWarning
from .graph import Graph
from .quantize.calibration.statistics import Statistics
from .quantize.capability import INPUT_NORMALIZATION_PREFIX

FEW_SAMPLES = 32
UNBALANCED_FACTOR = 10
LEAST_PER_CLASS = 4
"""Whole numbers of which most occur less often are values, not classes."""
MAX_FEATURES = 256
"""A longer vector is taken for a flattened picture or signal, whose borders may be constant."""
MOST_NAMED = 5
LOOKED_AT_SAMPLES = 256
"""Enough to tell bytes from other numbers."""
MOVING = frozenset({"Transpose", "Reshape", "Identity", "Cast", "Flatten", "Squeeze", "Unsqueeze"})
PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
BYTE_PEAK = 255.0
"""A first product that gives more than this got inputs far larger than those it was trained on: outputs of about 10 are
usual (MLPerf Tiny's nets give 10 to 30), and 1 000 and more where bytes go into a net that was trained on x / 255."""


@dataclass(frozen=True)
class _Evidence:
    data: Dataset
    graph: Graph
    statistics: Statistics | None


def lint(data: Dataset, graph: Graph, statistics: Statistics | None = None) -> tuple[DataWarning, ...]:
    """All warnings, the gravest kinds first.

    Args:
        data: divided, in the model's types.
        graph: the optimised float graph.
        statistics: of the calibration samples; without them what needs activations is not looked at.
    """
    evidence = _Evidence(data, graph, statistics)
    return tuple(warning for check in CHECKS for warning in check(evidence))


def _overlap(evidence: _Evidence) -> Iterator[DataWarning]:
    found, total = evidence.data.overlap, len(evidence.data.test)
    if found:
        yield DataWarning(
            code="test-overlap",
            text=f"{found} of {total} test samples are also in calibrate or tune: the reported accuracy is too high",
            fix="take them out of one side, or leave `split` away: equal samples then stay together",
        )


def _not_finite(evidence: _Evidence) -> Iterator[DataWarning]:
    tensors = {} if evidence.statistics is None else evidence.statistics.tensors
    broken = {name: found.not_finite for name, found in tensors.items() if found.not_finite}
    if broken:
        yield DataWarning(
            code="not-finite",
            text=f"NaN or infinity in {len(broken)} activations on calibration data: {_some(list(broken))}",
            fix="look at the first one: inputs out of range, or a mask of -inf, which a large negative number replaces",
        )


def _range_of_bytes(evidence: _Evidence) -> Iterator[DataWarning]:
    for name, array in _float_inputs(evidence):
        first = _first_product(evidence.graph, name)
        if first is None or evidence.statistics is None or not _like_bytes(array):
            continue
        result = evidence.statistics.tensors.get(first.outputs[0].name or "")
        peak = 0.0 if result is None else max(-result.low, result.high)
        if peak > BYTE_PEAK:
            yield DataWarning(
                code="raw-range",
                text=f"input {name!r} holds whole numbers from {array.min():g} to {array.max():g}, and its first "
                f"{first.op_type} gives up to {peak:.0f}: the model seems to expect scaled values",
                fix="scale the data as in training, or fold it into the model: --scale 1/255 (and --mean)",
            )


def _range_of_units(evidence: _Evidence) -> Iterator[DataWarning]:
    for name, array in evidence.data.calibrate.inputs.items():
        if _is_normalized(evidence.graph, name) and array.size and array.min() >= 0 and array.max() == 1:
            yield DataWarning(
                code="scaled-range",
                text=f"input {name!r} takes raw bytes, but the data has only 0 and 1",
                fix="give the raw pictures (0 to 255), or leave --mean and --scale away",
            )


def _range_without_effect(evidence: _Evidence) -> Iterator[DataWarning]:
    for name, array in _float_inputs(evidence):
        first = _first_product(evidence.graph, name)
        reach = None if first is None else _reach(first, float(max(-array.min(), array.max(), 0)))
        if first is not None and reach is not None and reach < 1:
            yield DataWarning(
                code="weak-range",
                text=f"input {name!r} lies within {array.min():g} and {array.max():g}: too little to outweigh the bias "
                f"of its first {first.op_type} in most channels",
                fix="give the values that the model was trained on, such as raw 0 to 255 instead of 0 to 1",
            )


def _layout(evidence: _Evidence) -> Iterator[DataWarning]:
    for name, array in evidence.data.calibrate.inputs.items():
        first = _first_product(evidence.graph, name)
        if first is None or first.op_type != "Conv" or array.ndim != 4:
            continue
        weight = first.inputs[1]
        if weight is None or weight.shape is None or not isinstance(weight.shape[1], int):
            continue
        channels = weight.shape[1] * first.attributes.get_int("group", 1)
        if array.shape[1] == array.shape[3] == channels:
            yield DataWarning(
                code="ambiguous-layout",
                text=f"input {name!r} has {channels} entries both on axis 1 and on axis 3, so that channels first "
                "(NCHW) and channels last (NHWC) look alike",
                fix="check the order; numpy.transpose(x, (0, 3, 1, 2)) makes NCHW of NHWC",
            )


def _few_samples(evidence: _Evidence) -> Iterator[DataWarning]:
    count = len(evidence.data.calibrate)
    if count < FEW_SAMPLES:
        yield DataWarning(
            code="few-samples",
            text=f"{count} calibration samples: ranges miss what rarer samples reach, which int8 then clips",
            fix=f"give at least {FEW_SAMPLES} samples for calibrate, better some hundred"
            + (f" (a file of {4 * FEW_SAMPLES} without `split`)" if evidence.data.split_by.startswith("hash") else ""),
        )


def _constant(evidence: _Evidence) -> Iterator[DataWarning]:
    for name, array in evidence.data.calibrate.inputs.items():
        if len(array) < 2 or not array[0].size:
            continue
        fixed = _never_vary(array)
        if fixed.all():
            yield DataWarning(
                code="constant-input",
                text=f"input {name!r} is the same in all {len(array)} calibration samples",
                fix="give samples that differ, as they do in use; ranges of one value are useless for others",
            )
            continue
        channels, word = _fixed_channels(fixed)
        if channels:
            yield DataWarning(
                code="constant-feature",
                text=f"input {name!r}: {len(channels)} {word} never vary in calibration: {_some(channels)}",
                fix="check that they are filled in; if they are constant in use too, take them out of the model",
            )


def _never_vary(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which elements of a sample are the same in all samples."""
    fixed = np.ones(array.shape[1:], dtype=bool)
    for part in mapped.chunks(array):
        fixed &= (array[part] == array[0]).all(axis=0)
    return fixed


def _fixed_channels(fixed: NDArray[np.bool_]) -> tuple[list[str], str]:
    """Features of flat samples, channels of pictures; that the borders of pictures do not vary means nothing."""
    if fixed.ndim == 1:
        places = np.flatnonzero(fixed) if len(fixed) <= MAX_FEATURES else ()
        return [str(place) for place in places], "features"
    if fixed.ndim < 2 or fixed.shape[0] == fixed.shape[-1]:
        return [], "channels"
    axis = 0 if fixed.shape[0] < fixed.shape[-1] else fixed.ndim - 1  # channels are fewer than rows or columns
    whole = fixed.all(axis=tuple(other for other in range(fixed.ndim) if other != axis))
    return [str(place) for place in np.flatnonzero(whole)], f"channels of axis {axis + 1}"


def _classes(evidence: _Evidence) -> Iterator[DataWarning]:
    parts = {name: getattr(evidence.data, name).labels for name in ("calibrate", "tune", "test")}
    if any(labels is None or labels.ndim != 1 or labels.dtype.kind not in "biu" for labels in parts.values()):
        return
    known = np.unique(np.concatenate(list(parts.values())))
    if not 2 <= len(known) <= sum(map(len, parts.values())) / LEAST_PER_CLASS:
        return
    for part in ("calibrate", "test"):
        missing = np.setdiff1d(known, parts[part])
        if len(missing):
            yield DataWarning(
                code=f"classes-missing-in-{part}",
                text=f"{part} has no sample of {len(missing)} of {len(known)} classes: {_some(missing.tolist())}",
                fix="add samples of them"
                + (" or move some in `split`" if not evidence.data.split_by.startswith("hash") else ""),
            )
    classes, counts = np.unique(parts["test"], return_counts=True)
    if counts.max() >= UNBALANCED_FACTOR * counts.min() and counts.max() >= 2 * UNBALANCED_FACTOR:
        yield DataWarning(
            code="unbalanced-classes",
            text=f"test has {counts.max()} samples of class {classes[counts.argmax()]} and {counts.min()} of class "
            f"{classes[counts.argmin()]}: what is lost on rare classes hardly shows in top-1",
            fix="add samples of the rare classes, or score with --metric module:function that weighs classes alike",
        )


CHECKS: tuple[Callable[[_Evidence], Iterator[DataWarning]], ...] = (
    _overlap,
    _not_finite,
    _range_of_bytes,
    _range_of_units,
    _range_without_effect,
    _layout,
    _few_samples,
    _constant,
    _classes,
)


def _float_inputs(evidence: _Evidence) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, array in evidence.data.calibrate.inputs.items():
        if array.dtype.kind == "f" and array.size:
            yield name, array[:LOOKED_AT_SAMPLES]


def _like_bytes(array: NDArray[Any]) -> bool:
    low, high = float(array.min()), float(array.max())
    return low >= -128 and 64 < high <= 255 and bool((array == np.rint(array)).all())


def _first_product(graph: Graph, name: str) -> ir.Node | None:
    """The product that reads an input as it came; None where the model computes with it before."""
    value = next((found for found in graph.graph.inputs if found.name == name), None)
    while value is not None:
        readers = [use.node for use in value.uses()]
        if len(readers) != 1 or readers[0].inputs[0] is not value:
            return None
        if readers[0].op_type in PRODUCTS:
            return readers[0]
        value = readers[0].outputs[0] if readers[0].op_type in MOVING else None
    return None


def _is_normalized(graph: Graph, name: str) -> bool:
    """Whether --mean and --scale were folded in behind an input."""
    value = next((found for found in graph.graph.inputs if found.name == name), None)
    readers = [] if value is None else [use.node for use in value.uses()]
    return any((reader.name or "").startswith(INPUT_NORMALIZATION_PREFIX) for reader in readers)


def _reach(node: ir.Node, peak: float) -> float | None:
    """The most that inputs of this magnitude can add, over the bias: the median channel's."""
    constants = [value.const_value if value is not None else None for value in node.inputs[1:3]]
    if node.op_type != "Conv" or len(constants) < 2 or constants[0] is None or constants[1] is None:
        return None
    weight, bias = constants[0].numpy(), np.abs(constants[1].numpy())
    if not bias.any():
        return None
    added = np.abs(weight).sum(axis=tuple(range(1, weight.ndim))) * peak
    return float(np.median(np.divide(added, bias, out=np.full(bias.shape, math.inf, added.dtype), where=bias > 0)))


def _some(names: list[Any]) -> str:
    rest = len(names) - MOST_NAMED
    return ", ".join(map(str, names[:MOST_NAMED])) + (f" and {rest} more" if rest > 0 else "")
