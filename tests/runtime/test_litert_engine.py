"""Engine `litert`: what lies between the tensors of a file and those of a manifest, and files that want to crash it."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.engines.litert import ENGINE, Litert
from edgewright.runtime.engines.litert_tensors import Quantization
from edgewright.runtime.engines.protocol import EngineMissing, Instance, LoadOptions, ModelRefused

from .engine_bundles import FEATURES, IMAGE, SCORES, TwoLayers, write_engine_bundle
from .tflite_models import (
    Operation,
    Value,
    convolution_file,
    dense,
    int8_dense_file,
    quantize_file,
    tflite_file,
    two_layers_file,
)

OPTIONS = LoadOptions()
WEIGHTS = np.random.default_rng(3).integers(-127, 128, (4, 8)).astype(np.int8)


def spec(name: str, datatype: Any, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def load(folder: Path, content: bytes, inputs: TensorSpec, outputs: TensorSpec, **options: Any) -> Instance:
    manifest = write_engine_bundle(
        folder / "b", "litert", {"model/model.tflite": content}, [inputs], [outputs], options=options
    )
    return ENGINE.load(folder / "b", manifest, OPTIONS)


def quantized(value: float, scale: float, zero_point: int, lowest: int, highest: int) -> int:
    """The rule in exact steps: one float32 division, half away from zero."""
    with np.errstate(over="ignore"):
        ratio = float(np.float32(value) / np.float32(scale))
    if math.isinf(ratio):
        return highest if ratio > 0 else lowest
    whole = math.floor(abs(ratio))
    whole += abs(ratio) - whole >= 0.5
    return min(max(int(math.copysign(whole, ratio)) + zero_point, lowest), highest)


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20),
    scale=st.floats(2**-20, 2**20, width=32),
    dtype=st.sampled_from(["int8", "uint8", "int16"]),
    place=st.floats(0, 1),
)
@example(values=[0.5, -0.5, 1.5, -1.5, 2.5, 0.49999997, -0.49999997, 3e38, -3e38], scale=1.0, dtype="int8", place=0.5)
@example(values=[3e38, -3e38], scale=1e-6, dtype="int16", place=0.5)
def test_values_are_rounded_half_away_from_zero(values: list[float], scale: float, dtype: str, place: float) -> None:
    limits = np.iinfo(dtype)
    lowest, highest = int(limits.min), int(limits.max)
    zero_point = round(lowest + place * (highest - lowest))
    found = Quantization(np.dtype(dtype), scale, zero_point).quantize(np.array(values, np.float32))
    assert found.dtype == dtype
    assert found.tolist() == [quantized(value, scale, zero_point, lowest, highest) for value in values]


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -3), ("int16", 0), ("uint8", 128)])
def test_the_rule_is_that_of_the_quantize_operator(dtype: str, zero_point: int) -> None:
    halves = (np.arange(-200, 200) / 2).astype(np.float32)
    values = np.concatenate([halves * np.float32(0.1), np.nextafter(halves, np.float32(0)) * np.float32(0.1), halves])
    reference = Interpreter(
        model_content=quantize_file(len(values), dtype, 0.1, zero_point),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    reference.allocate_tensors()
    reference.set_tensor(reference.get_input_details()[0]["index"], values[np.newaxis])
    reference.invoke()
    right = reference.get_tensor(reference.get_output_details()[0]["index"])[0]
    found = Quantization(np.dtype(dtype), 0.1, zero_point).quantize(values)
    assert np.array_equal(found, right)


def test_what_is_no_number_has_a_place() -> None:
    found = Quantization(np.dtype(np.int8), 0.1, 5).quantize(np.array([np.nan, np.inf, -np.inf], np.float32))
    assert found.tolist() == [-128, 127, -128]


def test_a_quantized_file_is_served_in_float_and_in_its_own_numbers(tmp_path: Path) -> None:
    content = int8_dense_file(WEIGHTS)
    floats = load(tmp_path / "f", content, spec("x", "FP32", -1, 8), spec("y", "FP32", -1, 4))
    plain = load(tmp_path / "i", content, spec("x", "INT8", -1, 8), spec("y", "INT8", -1, 4))
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    stored = Quantization(np.dtype(np.int8), 0.02, -3).quantize(x)
    answer = plain.run({"x": stored})["y"]
    assert answer.dtype == np.int8
    served = floats.run({"x": x})["y"]
    assert served.dtype == np.float32
    assert np.array_equal(served, (answer.astype(np.float32) - 5) * np.float32(0.1))
    exact = ((stored.astype(int) + 3) @ WEIGHTS.T.astype(int)) * 0.02 * 0.01
    assert np.abs(served - np.clip(exact, -13.3, 12.2)).max() <= 0.1


@pytest.mark.parametrize("inputs", [spec("x", "FP32", -1, 3, 5, 6), spec("x", "FP32", 1, 3, 5, 6)])
def test_channels_may_be_last_in_the_file_and_second_in_the_manifest(tmp_path: Path, inputs: TensorSpec) -> None:
    random_ = np.random.default_rng(0)
    weights = random_.normal(size=(4, 1, 1, 3)).astype(np.float32)
    outputs = spec("y", "FP32", inputs.shape[0], 4, 5, 6)
    instance = load(tmp_path, convolution_file(weights, 5, 6), inputs, outputs, channels_last="x,y")
    rows = 3 if inputs.shape[0] == -1 else 1
    x = random_.normal(size=(rows, 3, 5, 6)).astype(np.float32)
    found = instance.run({"x": x})["y"]
    assert found.flags.c_contiguous
    assert np.allclose(found, np.einsum("oc,nchw->nohw", weights[:, 0, 0], x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, r"is float32 \[1, 5, 6, 3\], its manifest says float32 \[1, 3, 5, 6\]"),
        ({"channels_last": "x"}, r"output 'y' is float32 \[1, 5, 6, 4\]"),
        ({"channels_last": "x,z"}, "names z, which the manifest does not have"),
        ({"delegate": "gpu"}, "has no delegate 'gpu'; it has ethos-u"),
        ({"channels_last": 1}, r"not one of litert's: threads \(int\), channels_last \(str\), delegate \(str\)"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    content = convolution_file(np.zeros((4, 1, 1, 3), np.float32), 5, 6)
    with pytest.raises(ModelRefused, match=complaint):
        load(tmp_path, content, spec("x", "FP32", -1, 3, 5, 6), spec("y", "FP32", -1, 4, 5, 6), **options)


def test_two_axes_have_no_channels(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no axes after its channels"):
        load(tmp_path, two_layers_file(TwoLayers()), IMAGE, SCORES, channels_last="image")


def test_names_are_those_of_the_signature(tmp_path: Path) -> None:
    net = TwoLayers()
    content = two_layers_file(net, signatures={"classify": ({"picture": "image"}, {"answer": "scores"})})
    picture, answer = spec("picture", "FP32", -1, FEATURES), spec("answer", "FP32", -1, 10)
    x = np.ones((1, FEATURES), np.float32)
    found = load(tmp_path / "a", content, picture, answer).run({"picture": x})["answer"]
    assert np.allclose(found, net.scores(x), atol=1e-4)
    with pytest.raises(ModelRefused, match=r"inputs are \['picture'\], its manifest says \['image'\]"):
        load(tmp_path / "b", content, IMAGE, SCORES)


def test_of_several_signatures_the_serving_default_is_taken(tmp_path: Path) -> None:
    one, other = ({"a": "image"}, {"b": "scores"}), ({"image": "image"}, {"scores": "scores"})
    load(tmp_path / "a", two_layers_file(TwoLayers(), signatures={"x": one, "serving_default": other}), IMAGE, SCORES)
    with pytest.raises(ModelRefused, match="several signatures, x, y"):
        load(tmp_path / "b", two_layers_file(TwoLayers(), signatures={"x": one, "y": other}), IMAGE, SCORES)


def test_a_batch_that_the_file_has_is_taken_as_it_is(tmp_path: Path) -> None:
    net = TwoLayers()
    content = two_layers_file(net, batch=4)
    fixed = spec("image", "FP32", 4, FEATURES), spec("scores", "FP32", 4, 10)
    x = np.random.default_rng(0).normal(size=(4, FEATURES)).astype(np.float32)
    assert np.allclose(load(tmp_path / "a", content, *fixed).run({"image": x})["scores"], net.scores(x), atol=1e-4)
    with pytest.raises(ModelRefused, match=r"is float32 \[4, 64\], its manifest says float32 \[1, 64\]"):
        load(tmp_path / "b", content, IMAGE, SCORES)


def test_a_missing_delegate_is_the_machine_s_fault(tmp_path: Path) -> None:
    files = {"model/model.tflite": two_layers_file(TwoLayers())}
    manifest = write_engine_bundle(tmp_path / "b", "litert", files, options={"delegate": "ethos-u"})
    nowhere = Litert({"ethos-u": tmp_path / "libethosu_delegate.so"})
    with pytest.raises(
        EngineMissing, match=r"needs the delegate ethos-u, and .*libethosu_delegate.so cannot be loaded"
    ):
        nowhere.load(tmp_path / "b", manifest, OPTIONS)
    with pytest.raises(ModelRefused, match="nothing can emulate"):
        ENGINE.load(tmp_path / "b", manifest, LoadOptions(emulated=True))


def test_code_for_an_npu_asks_for_its_delegate(tmp_path: Path) -> None:
    values = [Value("image", (1, FEATURES)), Value("scores", (1, 10))]
    operation = Operation(schema.BuiltinOperator.CUSTOM, ("image",), ("scores",), custom="ethos-u")
    with pytest.raises(ModelRefused, match="option delegate has to be ethos-u"):
        load(tmp_path, tflite_file(values, [operation], ["image"], ["scores"]), IMAGE, SCORES)


def test_per_channel_inputs_are_refused(tmp_path: Path) -> None:
    values = [
        Value("x", (1, 2), "int8", None, (0.1, 0.2), (0, 0)),
        Value("w", (2, 2), "int8", np.ones((2, 2)), (0.1,), (0,)),
        Value("y", (1, 2), "int8", None, (0.1,), (0,)),
    ]
    operations = [dense(("x", "w"), "y", version=4)]
    with pytest.raises(ModelRefused):
        load(
            tmp_path, tflite_file(values, operations, ["x"], ["y"]), spec("x", "FP32", -1, 2), spec("y", "FP32", -1, 2)
        )


def test_emulated_answers_are_those_of_the_reference_kernels(tmp_path: Path) -> None:
    content = int8_dense_file(WEIGHTS)
    inputs, outputs = spec("x", "INT8", -1, 8), spec("y", "INT8", -1, 4)
    manifest = write_engine_bundle(
        tmp_path / "b", "litert", {"model/model.tflite": content}, [inputs], [outputs], precision="int8"
    )
    emulated = LoadOptions(emulated=True)
    instance = ENGINE.load(tmp_path / "b", manifest, emulated)
    x = np.random.default_rng(0).integers(-128, 128, (50, 8)).astype(np.int8)
    sums = (x.astype(int) + 3) @ WEIGHTS.T.astype(int)
    right = np.clip(np.round(sums * 0.02 * 0.01 / 0.1) + 5, -128, 127)
    assert np.abs(instance.run({"x": x})["y"] - right).max() <= 1

    content = two_layers_file(TwoLayers())
    reference = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    image = np.random.default_rng(0).normal(size=(1, FEATURES)).astype(np.float32)
    reference.set_tensor(reference.get_input_details()[0]["index"], image)
    reference.invoke()
    floats = write_engine_bundle(tmp_path / "f", "litert", {"model/model.tflite": content})
    found = ENGINE.load(tmp_path / "f", floats, emulated).run({"image": image})["scores"]
    assert np.array_equal(found, reference.get_tensor(reference.get_output_details()[0]["index"]))


DAMAGE = """
import random, sys
from pathlib import Path
import msgspec
from edgewright.bundle.archive import read_manifest
from edgewright.bundle.manifest import Entry
from edgewright.runtime.engines.litert import ENGINE
from edgewright.runtime.engines.protocol import LoadOptions, ModelRefused
directory = Path(sys.argv[1])
plain, file = read_manifest(directory), directory / "model/model.tflite"
right, counts = file.read_bytes(), [0, 0]
for seed in range(300):
    dice, bad = random.Random(seed), bytearray(right)
    for _ in range(dice.choice([1, 2, 8])):
        bad[dice.randrange(len(bad))] = dice.randrange(256)
    file.write_bytes(bad[: dice.randrange(len(bad))] if seed % 5 == 0 else bad)
    entry = Entry(path="model/model.tflite", size_bytes=file.stat().st_size, sha256="0" * 64)
    manifest = msgspec.structs.replace(plain, entries=(entry,))
    try:
        ENGINE.load(directory, manifest, LoadOptions()).close()
        counts[0] += 1
    except ModelRefused:
        counts[1] += 1
print(*counts)
"""


def test_damaged_files_are_refused_or_load(tmp_path: Path) -> None:
    """Structure is verified before it is followed. In a process of its own, so that a crash would be a failure here."""
    files = {"model/model.tflite": two_layers_file(TwoLayers())}
    write_engine_bundle(tmp_path / "b", "litert", files)
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, tmp_path / "b"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded, refused = map(int, done.stdout.split())
    assert refused > 60
    assert loaded > 0


def test_the_size_is_the_manifest_s(tmp_path: Path) -> None:
    manifest = write_engine_bundle(tmp_path / "b", "litert", {"model/model.tflite": two_layers_file(TwoLayers())})
    file = tmp_path / "b/model/model.tflite"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(ModelRefused, match="bytes, its manifest says"):
        ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    file.write_bytes(whole + b"\0")
    with pytest.raises(ModelRefused, match="more than"):
        ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    huge = msgspec.structs.replace(manifest.entries[0], path="model/model.tflite", size_bytes=1 << 31)
    with pytest.raises(ModelRefused, match="more than a TFLite file can"):
        ENGINE.load(tmp_path / "b", msgspec.structs.replace(manifest, entries=(huge,)), OPTIONS)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    manifest = write_engine_bundle(tmp_path / "b", "litert", {"model/model.tflite": two_layers_file(TwoLayers())})
    file = tmp_path / "b/model/model.tflite"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelRefused, match="symbolic link"):
        ENGINE.load(tmp_path / "b", manifest, OPTIONS)


def test_a_second_input_without_a_batch_is_the_same_for_every_sample(tmp_path: Path) -> None:
    values = [Value("a", (1, 3)), Value("b", (3,)), Value("y", (1, 3))]
    options, kind = schema.AddOptionsT(), schema.BuiltinOptions.AddOptions
    content = tflite_file(
        values, [Operation(schema.BuiltinOperator.ADD, ("a", "b"), ("y",), options, kind)], ["a", "b"], ["y"]
    )
    manifest = write_engine_bundle(tmp_path / "b", "litert", {"model/model.tflite": content})
    manifest = msgspec.structs.replace(
        manifest, inputs=(spec("b", "FP32", 3), spec("a", "FP32", -1, 3)), outputs=(spec("y", "FP32", -1, 3),)
    )
    instance = ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    a: NDArray[np.float32] = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.array([10, 20, 30], np.float32)
    assert np.array_equal(instance.run({"a": a, "b": b})["y"], a + b)
