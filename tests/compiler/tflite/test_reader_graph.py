"""What the reader makes of whole models: dilations, half floats, hybrid products, ports; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgewright.compiler.faults import ModelError, UnsupportedModel
from edgewright.compiler.graph import operator_counts, signature
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.model import Model, Operator, Port, Quantization, Tensor
from edgewright.compiler.tflite.file.versions import versioned
from edgewright.compiler.tflite.reader.operators import OPERATORS
from edgewright.compiler.tflite.reader.read_graph import MAX_ACTIVATION_ELEMENTS, graph_of
from tests.compiler.tflite.runs import run_litert, run_onnx
from tests.compiler.tflite.single_operator import normal
from tests.compiler.tflite.stand_ins import STAND_INS, VALID, Net, keywords
from tests.compiler.tflite.tflite_operator import Case, Fixed, Weight, float_model
from tests.layering import ROOT


def constant(name: str, *numbers: int) -> Tensor:
    return Tensor(name, "INT32", (len(numbers),), data=np.asarray(numbers, np.int32))


def dilated(crop: int = 1) -> Model:
    """A convolution of 3x3 with dilations of 2 over a picture of 7x7, as converters write it."""
    random = np.random.default_rng(0)
    filters = random.normal(size=(4, 3, 3, 2)).astype(np.float32)
    pads = np.asarray([[2, 3], [2, 3]], np.int32)
    crops = np.asarray([[0, crop], [0, crop]], np.int32)
    tensors = (
        Tensor("x", "FLOAT32", (1, 7, 7, 2)),
        constant("blocks", 2, 2),
        Tensor("pads", "INT32", (2, 2), data=pads),
        Tensor("apart", "FLOAT32", (4, 6, 6, 2)),
        Tensor("filters", "FLOAT32", filters.shape, data=filters),
        Tensor("bias", "FLOAT32", (4,), data=np.ones(4, np.float32)),
        Tensor("convolved", "FLOAT32", (4, 4, 4, 4)),
        Tensor("crops", "INT32", (2, 2), data=crops),
        Tensor("y", "FLOAT32", (1, 8 - crop, 8 - crop, 4)),
    )
    plain = {"padding": VALID, "strideH": 1, "strideW": 1}
    operators = (
        Operator("SPACE_TO_BATCH_ND", (0, 1, 2), (3,)),
        Operator("CONV_2D", (3, 4, 5), (6,), plain),
        Operator("BATCH_TO_SPACE_ND", (6, 1, 7), (8,)),
    )
    return versioned(Model(tensors, operators, (Port("x", 0),), (Port("y", 8),), signature="serving_default"))


def test_convolutions_between_blocks_become_one_with_dilations() -> None:
    model, inputs = dilated(), {"x": normal(1, 1, 7, 7, 2)}
    graph = graph_of(model, "dilated")
    assert operator_counts(graph) == {"Conv": 1, "Transpose": 2}
    expected = run_litert(model, inputs, reference=True)["y"]
    np.testing.assert_allclose(run_onnx(graph, inputs)["y"], expected, atol=1e-5)


def test_blocks_that_are_read_twice_stay_blocks() -> None:
    model = dilated()
    twice = replace(model, outputs=(*model.outputs, Port("apart", 3)))
    graph, inputs = graph_of(twice, "dilated"), {"x": normal(1, 1, 7, 7, 2)}
    assert "Reshape" in operator_counts(graph)
    expected = run_litert(twice, inputs, reference=True)
    for name, array in run_onnx(graph, inputs).items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_pictures_are_flattened_as_they_lie_in_the_file(int8: bool) -> None:
    net = Net(int8=int8)
    start = net.input(1, 4, 3, 2)
    x = net.layer("CONV_2D", start, (5, 1, 1, 2), 0, (1, 4, 3, 5), {"padding": VALID, "strideH": 1, "strideW": 1})
    x = net.step("RESHAPE", (x, net.row(-1, 60)), (1, 60), {"newShape": (-1, 60)}, net.like(x))
    model = net.model(start, net.layer("FULLY_CONNECTED", x, (3, 60), None, (1, 3), {}))
    picture = normal(1, 1, 4, 3, 2)
    inputs = {"x": np.rint(picture * 40).astype(np.int8) if int8 else picture}
    graph = graph_of(model, "flat")
    expected = run_litert(model, inputs, reference=True)["y"].astype(np.float32)
    np.testing.assert_allclose(run_onnx(graph, inputs)["y"].astype(np.float32), expected, atol=1 if int8 else 1e-4)
    again = emit(graph, Ports(integer=True)).model
    np.testing.assert_array_equal(run_litert(again, inputs, reference=True)["y"], expected)


def test_half_weights_behind_dequantize_are_weights() -> None:
    half = normal(1, 5, 7).astype(np.float16)
    tensors = (
        Tensor("x", "FLOAT32", (1, 7)),
        Tensor("half", "FLOAT16", (5, 7), data=half),
        Tensor("weights", "FLOAT32", (5, 7)),
        Tensor("y", "FLOAT32", (1, 5)),
    )
    operators = (Operator("DEQUANTIZE", (1,), (2,)), Operator("FULLY_CONNECTED", (0, 2, -1), (3,)))
    model = versioned(Model(tensors, operators, (Port("x", 0),), (Port("y", 3),), signature="serving_default"))
    graph, inputs = graph_of(model, "half"), {"x": normal(2, 1, 7)}
    assert operator_counts(graph) == {"Cast": 1, "Gemm": 1}
    np.testing.assert_allclose(run_onnx(graph, inputs)["y"], run_litert(model, inputs)["y"], atol=1e-5)


def test_hybrid_products_compute_in_floats_and_are_written_as_hybrid() -> None:
    model = STAND_INS["kws-hybrid"]()
    graph, inputs = graph_of(model, "hybrid"), {"x": normal(1, 1, 12, 12, 1)}
    counts = operator_counts(graph)
    assert counts["DequantizeLinear"] == 3
    assert "QuantizeLinear" not in counts
    np.testing.assert_allclose(run_onnx(graph, inputs)["y"], run_litert(model, inputs)["y"], atol=0.02)
    again = emit(graph).model
    assert [operator.type for operator in again.operators] == [operator.type for operator in model.operators]


def test_float_ports_of_int8_models_stay_floats() -> None:
    tensors = (
        Tensor("x", "FLOAT32", (1, 4), (-1, 4)),
        Tensor("rounded", "INT8", (1, 4), quantization=Quantization((0.1,), (3,))),
        Tensor("clipped", "INT8", (1, 4), quantization=Quantization((0.1,), (-128,))),
        Tensor("y", "FLOAT32", (1, 4)),
    )
    operators = (Operator("QUANTIZE", (0,), (1,)), Operator("RELU", (1,), (2,)), Operator("DEQUANTIZE", (2,), (3,)))
    model = versioned(Model(tensors, operators, (Port("in", 0),), (Port("out", 3),), signature="serving_default"))
    graph, inputs = graph_of(model, "ports"), {"in": normal(2, 1, 4, scale=3)}
    assert [(port.name, port.dtype.name, port.shape) for port in signature(graph).inputs] == [("in", "FLOAT", (-1, 4))]
    expected = run_litert(model, inputs, reference=True)["out"]
    np.testing.assert_allclose(run_onnx(graph, inputs)["out"], expected, atol=1e-6)
    np.testing.assert_array_equal(run_litert(emit(graph).model, inputs, reference=True)["out"], expected)


def test_uint8_models_come_in_as_uint8_and_go_out_as_int8() -> None:
    tensors = (
        Tensor("x", "UINT8", (1, 4), quantization=Quantization((0.1,), (130,))),
        Tensor("z", "UINT8", (1, 4), quantization=Quantization((0.2,), (100,))),
        Tensor("y", "UINT8", (1, 4), quantization=Quantization((0.25,), (120,))),
    )
    model = versioned(
        Model(tensors, (Operator("ADD", (0, 1), (2,)),), (Port("x", 0), Port("z", 1)), (Port("y", 2),),
              signature="serving_default")
    )  # fmt: skip
    random = np.random.default_rng(1)
    inputs = {name: random.integers(0, 256, (1, 4), dtype=np.uint8) for name in "xz"}
    found = run_onnx(graph_of(model, "uint8"), inputs)["y"]
    expected = run_litert(model, inputs, reference=True)["y"]
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_outputs_may_be_inputs_and_the_same_tensor_twice() -> None:
    tensors = (Tensor("x", "FLOAT32", (1, 4)), Tensor("y", "FLOAT32", (1, 4)))
    outputs = (Port("a", 1), Port("b", 1), Port("c", 0))
    model = Model(tensors, (Operator("RELU", (0,), (1,)),), (Port("x", 0),), outputs)
    x = normal(1, 1, 4)
    found = run_onnx(graph_of(model, "outputs"), {"x": x})
    np.testing.assert_array_equal(found["a"], np.maximum(x, 0))
    np.testing.assert_array_equal(found["b"], found["a"])
    np.testing.assert_array_equal(found["c"], x)


def test_int16_activations_have_int16_quantizers() -> None:
    tensors = (
        Tensor("x", "INT16", (1, 4), quantization=Quantization((0.001,), (0,))),
        Tensor("y", "INT16", (1, 4), quantization=Quantization((1 / 32768,), (0,))),
    )
    operators = (Operator("LOGISTIC", (0,), (1,)),)
    model = versioned(Model(tensors, operators, (Port("x", 0),), (Port("y", 1),), signature="serving_default"))
    inputs = {"x": np.asarray([[-3000, -1, 5, 3000]], np.int16)}
    found = run_onnx(graph_of(model, "int16"), inputs)["y"]
    assert np.abs(found.astype(int) - run_litert(model, inputs, reference=True)["y"]).max() <= 4


def relu(**changes: object) -> Model:
    tensors = (Tensor("x", "FLOAT32", (1, 4)), Tensor("y", "FLOAT32", (1, 4)))
    return replace(Model(tensors, (Operator("RELU", (0,), (1,)),), (Port("x", 0),), (Port("y", 1),)), **changes)  # type: ignore[arg-type]


def of(case: Case) -> Model:
    return float_model(case)[0]


def declared(model: Model, *shape: int) -> Model:
    """The model with another shape of its result."""
    return replace(model, tensors=(*model.tensors[:-1], replace(model.tensors[-1], shape=shape)))


PICTURE = normal(1, 1, 6, 6, 2)
CONV = Case(
    "CONV_2D", (PICTURE, Weight(normal(2, 3, 3, 3, 2)), Fixed(np.zeros(3, np.float32))),
    {"padding": VALID, "strideH": 1, "strideW": 1},
)  # fmt: skip


def with_options(case: Case, **options: int) -> Model:
    model = of(case)
    changed = replace(model.operators[0], options={**model.operators[0].options, **options})
    return replace(model, operators=(changed,))


def with_numbers(case: Case, index: int, *numbers: int) -> Model:
    model = of(case)
    tensors = list(model.tensors)
    old = tensors[index]
    tensors[index] = replace(old, data=np.asarray(numbers, np.int32).reshape(old.shape))
    return replace(model, tensors=tuple(tensors))


PAD = Case("PAD", (normal(1, 2, 3), Fixed(np.asarray([[0, 0], [1, 2]], np.int32))))
RESIZE = Case("RESIZE_BILINEAR", (PICTURE, Fixed(np.asarray([8, 8], np.int32))))
SPLIT = Case("SPLIT", (Fixed(np.asarray([1], np.int32)), normal(1, 2, 6)), {"numSplits": 3}, outputs=3, data=1)
DAMAGED: dict[str, Callable[[], Model]] = {
    "no operators": lambda: relu(operators=()),
    "no outputs": lambda: relu(outputs=()),
    "two names": lambda: relu(outputs=(Port("x", 1),)),
    "too many inputs": lambda: relu(operators=(Operator("RELU", (0, 0, 0), (1,)),)),
    "no inputs": lambda: relu(operators=(Operator("RELU", (), (1,)),)),
    "no results": lambda: relu(operators=(Operator("RELU", (0,), ()),)),
    "read before made": lambda: relu(operators=(Operator("RELU", (1,), (1,)),)),
    "made twice": lambda: relu(operators=(Operator("RELU", (0,), (1,)), Operator("RELU", (0,), (1,)))),
    "made over an input": lambda: relu(operators=(Operator("RELU", (0,), (0,)), Operator("RELU", (0,), (1,)))),
    "another shape": lambda: declared(relu(), 1, 5),
    "another rank": lambda: declared(relu(), 4),
    "another type": lambda: relu(tensors=(Tensor("x", "FLOAT32", (1, 4)), Tensor("y", "INT32", (1, 4)))),
    "types that differ": lambda: replace(
        of(Case("ADD", (normal(1, 3), normal(2, 3)))),
        tensors=(Tensor("x0", "FLOAT32", (3,)), Tensor("x1", "INT32", (3,)), Tensor("y0", "FLOAT32", (3,))),
    ),
    "a stride of zero": lambda: with_options(CONV, strideH=0),
    "a negative stride": lambda: with_options(CONV, strideW=-1),
    "a huge stride": lambda: with_options(CONV, strideW=2**31 - 1),
    "a dilation of zero": lambda: with_options(CONV, dilationWFactor=0),
    "a huge dilation": lambda: with_options(CONV, dilationHFactor=2**30),
    "a padding that is none": lambda: with_options(CONV, padding=9),
    "a picture of another size": lambda: declared(of(CONV), 1, 400, 400, 3),
    "a huge border": lambda: with_numbers(PAD, 1, 0, 0, 2**30, 2**30),
    "a negative border": lambda: with_numbers(PAD, 1, 0, 0, -1, 2),
    "a huge picture": lambda: with_numbers(RESIZE, 1, 2**30, 2**30),
    "a picture of no size": lambda: with_numbers(RESIZE, 1, 0, 8),
    "an axis that is not there": lambda: with_numbers(SPLIT, 0, 5),
    "parts that are not equal": lambda: replace(
        of(SPLIT), tensors=(constant("axis", 1), Tensor("x1", "FLOAT32", (2, 7)), *of(SPLIT).tensors[2:])
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_files_that_contradict_themselves_are_damaged(what: str) -> None:
    model = DAMAGED[what]()
    with pytest.raises(ModelError, match="net"):
        graph_of(model, "net")


UNSUPPORTED: dict[str, tuple[Callable[[], Model], str]] = {
    "an operator": (
        lambda: relu(operators=(Operator("CUMSUM", (0, 0), (1,)),)),
        r"net: CUMSUM \(operator 0, gives y\): this operator is not read; replace it",
    ),
    "a custom one": (
        lambda: relu(operators=(Operator("CUSTOM", (0,), (1,), custom="MyOp"),)),
        "custom operator 'MyOp' is not read",
    ),
    "what Vela wrote": (
        lambda: relu(operators=(Operator("CUSTOM", (0,), (1,), custom="ethos-u"),)),
        "give the file that went into Vela",
    ),
    "a state": (
        lambda: relu(tensors=(Tensor("x", "FLOAT32", (1, 4), variable=True), Tensor("y", "FLOAT32", (1, 4)))),
        "keeps its value between calls",
    ),
    "too much": (
        lambda: declared(relu(), MAX_ACTIVATION_ELEMENTS + 1),
        "check the model's sizes",
    ),
    "an activation": (lambda: with_options(CONV, fusedActivationFunction=4), "its activation TANH is not taken"),
    "a symmetric border": (
        lambda: with_options(replace(PAD, kind="MIRROR_PAD"), mode=1),
        "it pads SYMMETRIC",
    ),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_has_no_form_is_refused_by_name(what: str) -> None:
    make, message = UNSUPPORTED[what]
    with pytest.raises(UnsupportedModel, match=message):
        graph_of(make(), "net")


def test_scales_per_channel_are_for_constants() -> None:
    model = keywords(Net(int8=True))
    tensors = list(model.tensors)
    tensors[0] = replace(tensors[0], quantization=Quantization((0.1,) * 12, (0,) * 12, 1))
    with pytest.raises(UnsupportedModel, match="one scale per tensor"):
        graph_of(replace(model, tensors=tuple(tensors)), "net")


def test_what_stays_integer_is_one_operator_again() -> None:
    emitted = emit(graph_of(STAND_INS["resnet-int8"](), "net"), Ports(integer=True)).model
    assert all(emitted.tensors[index].type == "INT8" for operator in emitted.operators for index in operator.outputs)


def test_the_page_names_every_operator_that_is_read() -> None:
    names = ", ".join(f"`{name}`" for name in sorted(OPERATORS))
    assert names in (ROOT / "docs/formats/tflite.md").read_text(encoding="utf-8")
