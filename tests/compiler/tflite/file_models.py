"""Models as data, drawn at random: what the format can say, whether or not a runtime computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgewright.compiler.tflite.file.model import (
    ABSENT,
    NUMPY,
    Model,
    Operator,
    OptionValue,
    Port,
    Quantization,
    Tensor,
)
from edgewright.compiler.tflite.file.schema import OPERATORS, new_options, options_of

QUANTIZED = ("INT8", "UINT8", "INT16", "INT32")
LISTS = {"newShape", "squeezeDims", "numColumnsPerChannel", "embeddingDimPerChannel"}
TEXTS = {"container", "sharedName"}
ENUMERATIONS = {"padding": 1, "fusedActivationFunction": 5, "mode": 1, "weightsFormat": 1}
SMALL = st.integers(0, 17)
"""Fits every integer field, and is a type where one is asked for."""
BUILTIN = sorted(
    name
    for name in OPERATORS
    if not name.startswith("STABLEHLO") and name not in {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
)


def same(one: Model, other: Model) -> None:
    """Asserts that a model was kept; options may have more fields than they had."""
    assert len(one.tensors) == len(other.tensors)
    for mine, its in zip(one.tensors, other.tensors, strict=True):
        for field in ("name", "type", "shape", "free", "quantization", "variable"):
            assert getattr(mine, field) == getattr(its, field)
        assert (mine.data is None) == (its.data is None)
        if mine.data is not None and its.data is not None:
            assert (mine.data.dtype, mine.data.shape) == (its.data.dtype, its.data.shape)
            assert mine.data.tobytes() == its.data.tobytes()
    assert len(one.operators) == len(other.operators)
    for called, found in zip(one.operators, other.operators, strict=True):
        for field in ("type", "inputs", "outputs", "version", "custom", "custom_options"):
            assert getattr(called, field) == getattr(found, field)
        assert dict(called.options) == {name: found.options[name] for name in called.options}
    for field in ("inputs", "outputs", "description", "metadata", "signature"):
        assert getattr(one, field) == getattr(other, field)


@st.composite
def quantizations(draw: st.DrawFn, kind: str, shape: tuple[int, ...]) -> Quantization | None:
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    axis = draw(st.sampled_from([None, *axes]))
    count = 1 if axis is None else shape[axis]
    positive = st.floats(0, 2.0**100, width=32, exclude_min=True)
    limits = np.iinfo(np.dtype(NUMPY[kind]))
    zeros = st.integers(int(limits.min), int(limits.max))
    scales = draw(st.lists(positive, min_size=count, max_size=count))
    return Quantization(
        tuple(scales), tuple(draw(st.lists(zeros, min_size=count, max_size=count))), 0 if axis is None else axis
    )


@st.composite
def tensors(draw: st.DrawFn, index: int, *, constant: bool) -> Tensor:
    kind = draw(st.sampled_from(sorted(NUMPY)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=5)))
    data = None
    if constant:
        size = int(np.prod(shape)) * np.dtype(NUMPY[kind]).itemsize
        content = draw(st.binary(min_size=size, max_size=size))
        data = np.frombuffer(content, np.uint8).copy()
        data = (data % 2 if kind == "BOOL" else data).view(NUMPY[kind]).reshape(shape)
    free = tuple(draw(st.sampled_from([size, -1])) for size in shape)
    return Tensor(
        name=f"t{index}{draw(st.text(max_size=3))}",
        type=kind,
        shape=shape,
        free=free if -1 in free else (),
        data=data,
        quantization=draw(st.none() | quantizations(kind, shape)) if kind in QUANTIZED else None,
        variable=False if constant else draw(st.booleans()),
    )


def _option(name: str, default: Any) -> st.SearchStrategy[OptionValue]:
    if name in LISTS:
        return st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(tuple)
    if name in TEXTS:
        return st.text(max_size=5)
    if name == "boundaries":
        return st.lists(st.floats(width=32, allow_nan=False), max_size=5).map(tuple)
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, float):
        return st.floats(width=32, allow_nan=False)
    return st.integers(0, ENUMERATIONS[name]) if name in ENUMERATIONS else SMALL


@st.composite
def operators(draw: st.DrawFn, known: list[int], made: tuple[int, ...]) -> Operator:
    inputs = tuple(draw(st.lists(st.sampled_from([ABSENT, *known]), max_size=4)))
    version = draw(st.integers(1, 12))
    if draw(st.booleans()):
        name, content = draw(st.text(min_size=1, max_size=5)), draw(st.binary(max_size=5))
        return Operator("CUSTOM", inputs, made, version=version, custom=name, custom_options=content)
    kind = draw(st.sampled_from(BUILTIN))
    table = options_of(kind)
    fields = {} if table is None else {k: v for k, v in vars(new_options(table)).items() if k != "quantSpec"}
    chosen = [name for name in fields if draw(st.booleans())]
    return Operator(kind, inputs, made, {name: draw(_option(name, fields[name])) for name in chosen}, version)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Tensors and operators in an order in which they can be computed."""
    constants = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    all_tensors = [draw(tensors(index, constant=constant)) for index, constant in enumerate(constants)]
    given = [index for index, constant in enumerate(constants) if not constant]
    known = list(range(len(constants)))
    steps = []
    for _ in range(draw(st.integers(0, 4))):
        made = tuple(range(len(all_tensors), len(all_tensors) + draw(st.integers(1, 2))))
        all_tensors += [draw(tensors(index, constant=False)) for index in made]
        steps.append(draw(operators(known, made)))
        known += made
    taken = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4))
    signature = draw(st.none() | st.text(max_size=5))
    if signature is None:
        taken = sorted(set(taken))
    names = draw(st.lists(st.text(max_size=4), min_size=len(given) + len(taken), unique=True))
    titles = [all_tensors[index].name for index in (*given, *taken)] if signature is None else names
    return Model(
        tensors=tuple(all_tensors),
        operators=tuple(steps),
        inputs=tuple(Port(titles[place], index) for place, index in enumerate(given)),
        outputs=tuple(Port(titles[len(given) + place], index) for place, index in enumerate(taken)),
        description=draw(st.text(max_size=5)),
        metadata=draw(st.dictionaries(st.text(max_size=5), st.binary(max_size=20), max_size=2)),
        signature=signature,
    )


def dense(weight: np.ndarray[Any, np.dtype[Any]], bias: np.ndarray[Any, np.dtype[Any]]) -> Model:
    """A FULLY_CONNECTED in float: `x` (1, in) to `y` (1, out)."""
    units, features = weight.shape
    return Model(
        tensors=(
            Tensor("x", "FLOAT32", (1, features), free=(-1, features)),
            Tensor("w", "FLOAT32", weight.shape, data=weight),
            Tensor("b", "FLOAT32", bias.shape, data=bias),
            Tensor("y", "FLOAT32", (1, units), free=(-1, units)),
        ),
        operators=(Operator("FULLY_CONNECTED", (0, 1, 2), (3,)),),
        inputs=(Port("x", 0),),
        outputs=(Port("y", 3),),
        signature="serving_default",
    )


def mixed() -> Model:
    """Many kinds of tensors and options in one small file."""
    int8 = Quantization((0.5,), (3,))
    weight = Quantization((0.1, 0.2), (0, 0), 3)
    return Model(
        tensors=(
            Tensor("x", "INT8", (1, 4, 4, 2), free=(-1, 4, 4, 2), quantization=int8),
            Tensor("w", "INT8", (1, 3, 3, 2), data=np.ones((1, 3, 3, 2), np.int8), quantization=weight),
            Tensor("b", "INT32", (2,), data=np.ones(2, np.int32), quantization=Quantization((0.05, 0.1), (0, 0))),
            Tensor("c", "INT8", (1, 2, 2, 2), quantization=int8),
            Tensor("shape", "INT32", (2,), data=np.array([1, 8], np.int32)),
            Tensor("flags", "BOOL", (8,), data=np.ones(8, np.bool_)),
            Tensor("flat", "INT8", (1, 8), quantization=int8),
            Tensor("z", "INT8", (1, 8)),
        ),
        operators=(
            Operator("DEPTHWISE_CONV_2D", (0, 1, 2), (3,), {"strideW": 2, "strideH": 2, "padding": 1}, version=3),
            Operator("RESHAPE", (3, 4), (6,), {"newShape": (1, 8)}),
            Operator("CUSTOM", (6, -1, 5), (7,), custom="Mine", custom_options=b"\x01\x02"),
        ),
        inputs=(Port("x", 0),),
        outputs=(Port("z", 7),),
        metadata={"note": b"text"},
        signature="serving_default",
    )
