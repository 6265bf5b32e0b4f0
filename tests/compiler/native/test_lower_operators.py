"""Every operator alone, with random shapes and attributes, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.graph import from_proto
from edgewright.compiler.lower.native.interpret import run
from edgewright.compiler.lower.native.lowering import lower
from tests.compiler.native.lowered import check_close, check_model, one_node, with_constants

NOTHING = np.zeros(0, np.float32)
SEEDS = st.integers(0, 2**16)


def floats(random: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return random.normal(size=shape).astype(np.float32)


def whole(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.int64)


UNARY = (
    "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Softplus", "Mish", "Softsign",
    "ThresholdedRelu", "Shrink", "Exp", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Identity", "Sin", "Cos",
)  # fmt: skip
EXPONENTIAL_UNITS = {"Elu": (1.0, 1.0), "Celu": (1.0, 1.0), "Selu": (1.6732632423543772, 1.0507009873554805)}


@pytest.mark.parametrize("operator", sorted(EXPONENTIAL_UNITS))
@pytest.mark.parametrize("size", [3.0, 1e-4])
def test_exponential_units_are_exact_near_zero(operator: str, size: float) -> None:
    x = (size * np.random.default_rng(0).normal(size=(2, 60))).astype(np.float32)
    net = lower(from_proto(one_node(operator, {"x": x}, {})), 2)
    alpha, gamma = EXPONENTIAL_UNITS[operator]
    wide = x.astype(np.float64)
    wanted = gamma * np.where(wide > 0, wide, alpha * np.expm1(wide))
    check_close(run(net, {"x": x})["y0"].astype(np.float32), wanted.astype(np.float32), operator)


@pytest.mark.parametrize("operator", UNARY)
def test_functions_of_one_value(operator: str) -> None:
    x = 3 * floats(np.random.default_rng(0), 2, 3, 4, 5)
    check_model(one_node(operator, {"x": x}, {}), {"x": x})
    check_model(one_node(operator, {"x": x * 1e-4}, {}), {"x": x * np.float32(1e-4)})


@pytest.mark.parametrize("operator", ["Log", "Sqrt", "Reciprocal"])
def test_functions_of_positive_values(operator: str) -> None:
    x = np.abs(floats(np.random.default_rng(0), 2, 7)) + np.float32(0.1)
    check_model(one_node(operator, {"x": x}, {}), {"x": x})


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    x = 3 * floats(np.random.default_rng(0), 2, 40)
    check_model(one_node("Gelu", {"x": x}, {}, opset=20, approximate=approximate), {"x": x})


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"]), st.booleans())
def test_two_values_broadcast(seed: int, operator: str, constant: bool) -> None:
    random = np.random.default_rng(seed)
    shape = [2, *random.integers(1, 6, random.integers(1, 4))]
    other = [int(size) if random.random() < 0.6 else 1 for size in shape][random.integers(0, 2) if constant else 0 :]
    other[0] = shape[0] if len(other) == len(shape) and not constant else 1 if len(other) == len(shape) else other[0]
    x, y = floats(random, *shape), floats(random, *other)
    y = np.sign(y) * (np.abs(y) + np.float32(0.2))
    model = one_node(operator, {"x": x}, {"y": y}) if constant else one_node(operator, {"x": x, "y": y}, {})
    check_model(model, {"x": x} if constant else {"x": x, "y": y})


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 0.5, -0.5, -1.0, 1.7])
def test_powers(exponent: float) -> None:
    x = np.abs(floats(np.random.default_rng(0), 2, 7)) + np.float32(0.1)
    check_model(one_node("Pow", {"x": x}, {"e": np.array(exponent, np.float32)}), {"x": x})


@pytest.mark.parametrize("operator", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.int32])
def test_comparisons(operator: str, kind: Any) -> None:
    random = np.random.default_rng(0)
    x, y = (random.integers(0, 3, (2, 9)).astype(kind) for _ in range(2))
    check_model(one_node(operator, {"x": x, "y": y}, {}), {"x": x, "y": y})


@pytest.mark.parametrize("operator", ["And", "Or", "Xor", "Not"])
def test_logic(operator: str) -> None:
    random = np.random.default_rng(0)
    feeds = {name: random.random((2, 9)) < 0.5 for name in (("x",) if operator == "Not" else ("x", "y"))}
    check_model(one_node(operator, feeds, {}), feeds)


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_where(kind: Any) -> None:
    random = np.random.default_rng(0)
    feeds = {"c": random.random((2, 1, 5)) < 0.5, "x": random.integers(0, 2, (2, 4, 5)).astype(kind)}
    check_model(one_node("Where", feeds, {"y": np.array(1, kind)}), feeds)


@pytest.mark.parametrize("source", [np.float32, np.int64, np.int32, np.uint8, np.int8, np.bool_])
@pytest.mark.parametrize("target", [np.float32, np.int64, np.int32, np.uint8, np.int8, np.bool_])
def test_casts(source: Any, target: Any) -> None:
    x = np.array([[0, 1, 2, 5], [3, 127, 100, 0]]).astype(source)
    number = int(one_node("Identity", {"x": x.astype(target)}, {}).graph.input[0].type.tensor_type.elem_type)
    check_model(one_node("Cast", {"x": x}, {}, to=number), {"x": x})


def test_floats_are_cut_off_by_casts() -> None:
    x = np.array([[-1.7, -0.2, 0.9, 2.5]], np.float32)
    check_model(one_node("Cast", {"x": x}, {}, to=7), {"x": x}, batch=1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (None, 1.0), (-1.0, None), (None, None)])
def test_clips(low: float | None, high: float | None) -> None:
    x = 3 * floats(np.random.default_rng(0), 2, 9)
    limits = {
        name: NOTHING if limit is None else np.array(limit, np.float32)
        for name, limit in (("low", low), ("high", high))
    }
    check_model(one_node("Clip", {"x": x}, limits), {"x": x})


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.integers(1, 2))
def test_convolutions(seed: int, axes: int) -> None:
    random = np.random.default_rng(seed)
    groups = int(random.choice([1, 1, 2, 3]))
    given_, made = groups * int(random.integers(1, 4)), groups * int(random.integers(1, 4))
    kernel = [int(each) for each in random.integers(1, 4, axes)]
    x = floats(random, 2, given_, *random.integers(7, 12, axes))
    weight = floats(random, made, given_ // groups, *kernel)
    attributes: dict[str, Any] = {"group": groups, "strides": [int(each) for each in random.integers(1, 4, axes)]}
    mode = random.choice(["", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if mode:
        attributes["auto_pad"] = str(mode)
    else:
        attributes["dilations"] = [int(each) for each in random.integers(1, 4, axes)]
        attributes["pads"] = [int(each) for each in random.integers(0, 3, 2 * axes)]
    constants = {"w": weight} if random.random() < 0.3 else {"w": weight, "b": floats(random, made)}
    check_model(one_node("Conv", {"x": x}, constants, **attributes), {"x": x})


def test_a_convolution_of_the_whole_picture_is_a_product() -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 4, 3, 5)
    net = check_model(one_node("Conv", {"x": x}, {"w": floats(random, 6, 4, 3, 5)}), {"x": x})
    assert [type(layer).__name__ for layer in net.layers] == ["Alias", "Dense", "Alias"]


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 2))
def test_transposed_convolutions(seed: int, axes: int) -> None:
    random = np.random.default_rng(seed)
    groups = int(random.choice([1, 2]))
    given_, made = groups * int(random.integers(1, 3)), int(random.integers(1, 4))
    kernel = [int(each) for each in random.integers(1, 4, axes)]
    strides = [int(each) for each in random.integers(1, 4, axes)]
    dilations = [int(each) for each in random.integers(1, 3, axes)]
    x = floats(random, 2, given_, *random.integers(3, 6, axes))
    attributes: dict[str, Any] = {"group": groups, "strides": strides, "dilations": dilations}
    if random.random() < 0.3:
        attributes["auto_pad"] = str(random.choice(["SAME_UPPER", "SAME_LOWER"]))
        attributes["dilations"] = [1] * axes
        attributes["strides"] = [min(stride, size) for stride, size in zip(strides, kernel, strict=True)]
    else:
        reach = [(size - 1) * step for size, step in zip(kernel, dilations, strict=True)]
        full = [(size - 1) * stride + far for size, stride, far in zip(x.shape[2:], strides, reach, strict=True)]
        most = [min(far, (length - 1) // 2) for far, length in zip(reach, full, strict=True)]
        attributes["pads"] = [int(random.integers(0, each + 1)) for each in (*most, *most)]
        attributes["output_padding"] = [int(random.integers(0, stride)) for stride in strides]
    constants = {"w": floats(random, given_, made, *kernel), "b": floats(random, made * groups)}
    check_model(one_node("ConvTranspose", {"x": x}, constants, **attributes), {"x": x})


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.integers(1, 2), st.sampled_from(["MaxPool", "AveragePool"]))
def test_pools(seed: int, axes: int, operator: str) -> None:
    random = np.random.default_rng(seed)
    kernel = [int(each) for each in random.integers(2, 5, axes)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [int(each) for each in random.integers(1, 4, axes)],
        "ceil_mode": int(random.integers(0, 2)),
        "dilations": [int(each) for each in random.integers(1, 3, axes)],
        "pads": [int(random.integers(0, size)) for size in (*kernel, *kernel)],
    }
    if operator == "AveragePool":
        attributes["count_include_pad"] = int(random.integers(0, 2))
    x = floats(random, 2, 3, *random.integers(8, 12, axes))
    check_model(one_node(operator, {"x": x}, {}, opset=19, **attributes), {"x": x})


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(operator: str) -> None:
    x = floats(np.random.default_rng(0), 2, 3, 4, 5)
    check_model(one_node(operator, {"x": x}, {}), {"x": x})


REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp")


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axes", [(1,), (-1,), (1, 2), (2, 3), (0, 3)])
@pytest.mark.parametrize("kept", [0, 1])
def test_reductions(name: str, axes: tuple[int, ...], kept: int) -> None:
    x = np.abs(floats(np.random.default_rng(0), 2, 3, 4, 5)) + np.float32(0.1)
    check_model(one_node(f"Reduce{name}", {"x": x}, {}, opset=13, axes=axes, keepdims=kept) if name != "Sum" else
                one_node("ReduceSum", {"x": x}, {"a": whole(*axes)}, opset=13, keepdims=kept), {"x": x})  # fmt: skip


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("kept", [0, 1])
def test_places_of_extremes(operator: str, kept: int) -> None:
    x = floats(np.random.default_rng(0), 2, 3, 4)
    for axis in (1, 2):
        check_model(one_node(operator, {"x": x}, {}, axis=axis, keepdims=kept), {"x": x})


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_softmax(operator: str, opset: int, axis: int) -> None:
    x = floats(np.random.default_rng(0), 2, 3, 4, 5)
    if opset == 13 or axis != -1:
        check_model(one_node(operator, {"x": x}, {}, opset=opset, axis=axis), {"x": x})


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(), (1,), (5,), (1, 5), (2, 1), (2, 5)])
def test_gemm(transposed: int, bias: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 3)
    constants = {"w": floats(random, *((5, 3) if transposed else (3, 5))), "c": floats(random, *bias)}
    check_model(one_node("Gemm", {"x": x}, constants, transB=transposed, alpha=0.5, beta=2.0), {"x": x})


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (3, 5)), ((2, 4, 3), (3, 5)), ((2, 2, 4, 3), (2, 2, 3, 5)), ((2, 3), (3,))]
)
@pytest.mark.parametrize("dynamic", ["left", "right", "both"])
def test_matrix_products(left: tuple[int, ...], right: tuple[int, ...], dynamic: str) -> None:
    random = np.random.default_rng(0)
    a, b = floats(random, *left), floats(random, *right)
    feeds = {"a": a, "b": b} if dynamic == "both" else {"a": a} if dynamic == "left" else {"b": b}
    model = one_node("MatMul", {"a": a, "b": b}, {})
    model = with_constants(model, {name: each for name, each in (("a", a), ("b", b)) if name not in feeds})
    for value in model.graph.input:
        for place, size in enumerate((left, right)[value.name == "b"]):
            value.type.tensor_type.shape.dim[place].dim_value = size
    check_model(model, feeds)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_normalization(axis: int) -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 3, 4, 5)
    constants = {"s": floats(random, *x.shape[axis:]), "b": floats(random, *x.shape[axis:])}
    check_model(one_node("LayerNormalization", {"x": x}, constants, axis=axis), {"x": x})


def test_batch_normalization() -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 3, 4, 5)
    constants = {name: floats(random, 3) for name in ("s", "b", "m")} | {
        "v": np.abs(floats(random, 3)) + np.float32(0.1)
    }
    check_model(one_node("BatchNormalization", {"x": x}, constants), {"x": x})


def test_instance_normalization() -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 3, 4, 5)
    check_model(one_node("InstanceNormalization", {"x": x}, {"s": floats(random, 3), "b": floats(random, 3)}), {"x": x})


@pytest.mark.parametrize(("opset", "count"), [(18, 2), (21, 6)])
def test_group_normalization(opset: int, count: int) -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 6, 4, 5)
    constants = {"s": floats(random, count), "b": floats(random, count)}
    check_model(one_node("GroupNormalization", {"x": x}, constants, opset=opset, num_groups=2), {"x": x})


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(["constant", "reflect", "edge", "wrap"]))
def test_pads(seed: int, mode: str) -> None:
    random = np.random.default_rng(seed)
    x = floats(random, 2, *random.integers(4, 7, random.integers(1, 4)))
    low = -2 if mode == "constant" else 0
    pads = random.integers(low, 4, (2, x.ndim))
    pads[:, 0] = 0
    assume((pads.sum(0) + x.shape > 0).all())
    constants = {"p": pads.reshape(-1).astype(np.int64)}
    if mode == "constant":
        constants["v"] = np.array(1.5, np.float32)
    check_model(one_node("Pad", {"x": x}, constants, opset=19, mode=mode), {"x": x})


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_slices(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = floats(random, 2, *random.integers(4, 9, random.integers(1, 4)))
    axes = random.permutation(np.arange(1, x.ndim))[: random.integers(1, x.ndim)]
    steps = random.choice([1, 1, 2, -1, -2], len(axes))
    starts = np.where(steps > 0, random.integers(-3, 2, len(axes)), random.integers(2, 9, len(axes)))
    ends = np.where(steps > 0, random.integers(3, 20, len(axes)), random.choice([0, 1, -100], len(axes)))
    positions = [np.array(each, np.int64) for each in (starts, ends, axes, steps)]
    taken = [
        range(*slice(s, e if t > 0 or e >= -x.shape[a] else None, t).indices(x.shape[a]))
        for s, e, a, t in zip(*positions, strict=True)
    ]
    if all(len(each) for each in taken):
        check_model(one_node("Slice", {"x": x}, dict(zip("seat", positions, strict=True))), {"x": x})


def test_concat_split_and_copies() -> None:
    random = np.random.default_rng(0)
    x, y = floats(random, 2, 3, 4), floats(random, 2, 5, 4)
    check_model(one_node("Concat", {"x": x, "y": y}, {"c": floats(random, 2, 2, 4)}, axis=1), {"x": x, "y": y})
    check_model(one_node("Split", {"x": y}, {"s": whole(2, 3)}, 2, axis=1), {"x": y})
    check_model(one_node("Split", {"x": y}, {}, 2, axis=1, num_outputs=2), {"x": y})
    check_model(one_node("Tile", {"x": x}, {"r": whole(1, 2, 3)}), {"x": x})
    check_model(one_node("Expand", {"x": x[:, :1]}, {"s": whole(3, 2, 3, 4)}), {"x": x[:, :1]})
    check_model(one_node("Transpose", {"x": x}, {}, perm=[0, 2, 1]), {"x": x})
    check_model(one_node("Flatten", {"x": x}, {}, axis=2), {"x": x})
    check_model(one_node("Unsqueeze", {"x": x}, {"a": whole(0, -1)}), {"x": x})
    check_model(one_node("Squeeze", {"x": x[:, :1]}, {"a": whole(1)}), {"x": x[:, :1]})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    x = floats(np.random.default_rng(0), 2, 12, 3, 4)
    check_model(one_node("DepthToSpace", {"x": x}, {}, blocksize=2, mode=mode), {"x": x})


def test_space_to_depth() -> None:
    x = floats(np.random.default_rng(0), 2, 3, 4, 6)
    check_model(one_node("SpaceToDepth", {"x": x}, {}, blocksize=2), {"x": x})


@pytest.mark.parametrize("axis", [1, 2])
def test_gather(axis: int) -> None:
    random = np.random.default_rng(0)
    x = floats(random, 2, 5, 6)
    for indices in (whole(3, 0, -1), np.array(2), np.array([[0, 1], [4, 4]])):
        check_model(one_node("Gather", {"x": x}, {"i": indices.astype(np.int64)}, axis=axis), {"x": x})


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_embedding(kind: Any) -> None:
    random = np.random.default_rng(0)
    indices = random.integers(-9, 9, (2, 4)).astype(kind)
    table = floats(random, 9, 3)
    model = with_constants(one_node("Gather", {"table": table, "i": indices}, {}), {"table": table})
    check_model(model, {"i": indices})


COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_resize(coordinates: str, mode: str) -> None:
    x = floats(np.random.default_rng(0), 2, 3, 5, 4)
    attributes: dict[str, Any] = {"mode": "linear"} if mode == "linear" else {"mode": "nearest", "nearest_mode": mode}
    attributes["coordinate_transformation_mode"] = coordinates
    for factor in (2.0, 0.5):
        scales = np.array([1, 1, factor, factor], np.float32)
        model = one_node("Resize", {"x": x}, {"roi": NOTHING, "s": scales}, opset=19, **attributes)
        check_model(model, {"x": x})
    sizes = {"roi": NOTHING, "s": NOTHING, "z": whole(2, 3, 9, 6)}
    check_model(one_node("Resize", {"x": x}, sizes, opset=19, **attributes), {"x": x})


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("before", [0, 1])
def test_recurrent_layers(operator: str, direction: str, before: int) -> None:
    random = np.random.default_rng(0)
    count, gates = 2 if direction == "bidirectional" else 1, 4 if operator == "LSTM" else 3
    x = floats(random, 6, 2, 3)
    constants = {
        "w": floats(random, count, gates * 5, 3),
        "r": floats(random, count, gates * 5, 5),
        "b": floats(random, count, 2 * gates * 5),
        "lengths": NOTHING,
        "h": floats(random, count, 2, 5),
    }
    attributes: dict[str, Any] = {"hidden_size": 5, "direction": direction}
    if operator == "GRU":
        attributes["linear_before_reset"] = before
    model = one_node(operator, {"x": x}, constants, 3 if operator == "LSTM" else 2, **attributes)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2
    check_model(model, {"x": x}, batch=6)


@pytest.mark.parametrize("operator", ["NonMaxSuppression", "Einsum", "Mod", "CumSum"])
def test_what_native_code_cannot_compute_is_named(operator: str) -> None:
    x = np.zeros((2, 3), np.float32)
    model = one_node("Identity", {"x": x}, {})
    model.graph.node[0].op_type = operator
    model.graph.node[0].name = "culprit"
    model.graph.node[0].input.append("x")
    with pytest.raises(UnsupportedModel, match=rf"(?s){operator} at node 'culprit'.*; "):
        lower(from_proto(model), 1)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_windows_larger_than_their_input_are_refused_where_none_is_left(operator: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)
    large: dict[str, Any] = {"kernel_shape": [1, 4], "strides": [2, 2]}
    with pytest.raises(UnsupportedModel, match=r"windows of \(1, 4\) are larger than its padded input of \(4, 3\)"):
        lower(from_proto(one_node(operator, {"x": x}, {}, **large)), 1)
    check_model(one_node(operator, {"x": x}, {}, **large, ceil_mode=1), {"x": x}, batch=1)


def test_tensors_without_elements_are_refused() -> None:
    x = np.zeros((2, 3), np.float32)
    nothing = one_node("Slice", {"x": x}, {"from": whole(2), "to": whole(2), "axes": whole(1)})
    with pytest.raises(UnsupportedModel, match=r"shape \(1, 0\) holds no elements.*; leave"):
        lower(from_proto(nothing), 1)
    model = one_node("Relu", {"x": x}, {})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0
    with pytest.raises(UnsupportedModel, match=r"input 'x' .* holds no elements; "):
        lower(from_proto(model), 1)


def test_constants_are_what_onnx_runtime_makes_of_them() -> None:
    """ONNX's own evaluator fails on the one and gives the other the shape (1, 1)."""
    x = np.ones((1, 4, 3), np.float32)
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    constants = {"one": np.array(1.5, np.float32), "matrix": matrix, "line": matrix[None]}
    for operator, inputs in (("Mean", ["one", "matrix"]), ("GlobalMaxPool", ["line"])):
        model = one_node("Add", {"x": x}, {})
        model.graph.node[0].input.append("c")
        model.graph.node.insert(0, helper.make_node(operator, inputs, ["c"]))
        model.graph.initializer.extend(numpy_helper.from_array(constants[name], name) for name in inputs)
        check_model(model, {"x": x}, batch=1)


def test_empty_constants_may_be_joined() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    model = one_node("Concat", {"x": x}, {}, axis=1)
    model.graph.node[0].input.append("nothing")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 0), np.float32), "nothing"))
    check_model(model, {"x": x}, batch=2)


def test_a_free_dimension_that_is_no_batch_is_refused() -> None:
    model = one_node("Relu", {"x": np.zeros((2, 3), np.float32)}, {})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    with pytest.raises(UnsupportedModel, match=r"input 'x' .* only the first dimension may be free"):
        lower(from_proto(model), 1)
