"""Engine `openvino`: which files it loads, for which batches, and where its int8 is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

pytest.importorskip("openvino")  # before the engine, which imports it

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.engines.openvino import ENGINE, OpenVino, sums_exactly
from edgewright.runtime.engines.openvino_silenced import ov
from edgewright.runtime.engines.protocol import LoadOptions, ModelRefused

from .engine_bundles import CLASSES, FEATURES, TwoLayers, onnx_model, write_engine_bundle

OPTIONS = LoadOptions()
NET = TwoLayers()


def images(rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(rows, FEATURES)).astype(np.float32)


def intermediate(folder: Path) -> dict[str, bytes]:
    """OpenVINO's own two files."""
    (folder / "model.onnx").write_bytes(NET.onnx().SerializeToString())
    ov.save_model(ov.Core().read_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    return {f"model/model.{ending}": (folder / f"model.{ending}").read_bytes() for ending in ("xml", "bin")}


def test_its_own_two_files(tmp_path: Path) -> None:
    manifest = write_engine_bundle(tmp_path / "b", "openvino", intermediate(tmp_path))
    instance = ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    for rows in (1, 5):
        assert np.allclose(instance.run({"image": images(rows)})["scores"], NET.scores(images(rows)), atol=1e-4)


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [("model/model.bin", r"no model/model\.bin"), ("model/model.xml", "has 0 of")],
)
def test_each_file_is_needed(tmp_path: Path, lost: str, complaint: str) -> None:
    manifest = write_engine_bundle(tmp_path / "b", "openvino", intermediate(tmp_path))
    (tmp_path / "b" / lost).unlink()
    with pytest.raises(ModelRefused, match=complaint):
        ENGINE.load(tmp_path / "b", manifest, OPTIONS)


def test_two_models_are_one_too_many(tmp_path: Path) -> None:
    files = intermediate(tmp_path) | {"model/model.onnx": NET.onnx().SerializeToString()}
    manifest = write_engine_bundle(tmp_path / "b", "openvino", files)
    with pytest.raises(ModelRefused, match=r"has 2 of model/model\.xml and model/model\.onnx"):
        ENGINE.load(tmp_path / "b", manifest, OPTIONS)


@pytest.mark.parametrize("batch", [1, "n"])
def test_a_file_for_one_sample_serves_any_batch(tmp_path: Path, batch: int | str) -> None:
    files = {"model/model.onnx": NET.onnx(batch).SerializeToString()}
    instance = ENGINE.load(tmp_path / "b", write_engine_bundle(tmp_path / "b", "openvino", files), OPTIONS)
    for rows in (1, 2, 9):
        assert np.allclose(instance.run({"image": images(rows)})["scores"], NET.scores(images(rows)), atol=1e-4)


@pytest.mark.parametrize("batch", [4, "n"])
def test_a_fixed_batch(tmp_path: Path, batch: int | str) -> None:
    files = {"model/model.onnx": NET.onnx(batch).SerializeToString()}
    inputs = TensorSpec(name="image", datatype="FP32", shape=(4, FEATURES))
    outputs = TensorSpec(name="scores", datatype="FP32", shape=(4, CLASSES))
    manifest = write_engine_bundle(tmp_path / "b", "openvino", files, [inputs], [outputs])
    instance = ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    assert np.allclose(instance.run({"image": images(4)})["scores"], NET.scores(images(4)), atol=1e-4)


def test_a_file_for_four_is_not_for_any_batch(tmp_path: Path) -> None:
    files = {"model/model.onnx": NET.onnx(4).SerializeToString()}
    manifest = write_engine_bundle(tmp_path / "b", "openvino", files)
    with pytest.raises(ModelRefused, match=r"is float32 \[4, 64\], its manifest says float32 \[1, 64\]"):
        ENGINE.load(tmp_path / "b", manifest, OPTIONS)


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32", "FP64"])
def test_datatypes(tmp_path: Path, datatype: Any) -> None:
    kinds = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}
    kind = TensorProto.DataType.Value(kinds.get(datatype, datatype))
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=1)]
    files = {"model/model.onnx": onnx_model(nodes, {"x": ["n", 3]}, {"y": ["n", 6]}, {}, kind).SerializeToString()}
    specs = [TensorSpec(name=name, datatype=datatype, shape=(-1, size)) for name, size in (("x", 3), ("y", 6))]
    manifest = write_engine_bundle(tmp_path / "b", "openvino", files, specs[:1], specs[1:])
    instance = ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    x = np.array([[0, 1, 0], [1, 0, 1]]).astype(helper.tensor_dtype_to_np_dtype(kind))
    for rows in (1, 2):
        found = instance.run({"x": x[:rows]})["y"]
        assert found.dtype == x.dtype
        assert np.array_equal(found, np.concatenate([x[:rows]] * 2, axis=1))


def test_int8_is_emulated_only_where_its_sums_are_exact(tmp_path: Path) -> None:
    """Two products of 255 * 127 saturate in 16 bits on processors without VNNI, and no setting of OpenVINO helps."""
    files = {"model/model.onnx": NET.onnx().SerializeToString()}
    manifest = write_engine_bundle(tmp_path / "b", "openvino", files, precision="int8")
    with pytest.raises(ModelRefused, match="no exact sums"):
        OpenVino(lambda: False).load(tmp_path / "b", manifest, LoadOptions(emulated=True))
    OpenVino(lambda: True).load(tmp_path / "b", manifest, LoadOptions(emulated=True)).close()
    OpenVino(lambda: False).load(tmp_path / "b", manifest, OPTIONS).close()  # the golden self-test will tell


def test_this_processor_is_asked() -> None:
    assert sums_exactly() in {True, False}


@pytest.mark.parametrize("known", ["a", "ba"])
def test_an_input_more_than_the_manifest_s_is_refused_and_an_output_more_is_left_out(
    tmp_path: Path, known: str
) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"]), helper.make_node("Sub", ["a", "b"], ["z"])]
    model = onnx_model(nodes, {"a": ["n", 3], "b": ["n", 3]}, {"y": ["n", 3], "z": ["n", 3]}, {})
    specs = [TensorSpec(name=name, datatype="FP32", shape=(-1, 3)) for name in (*known, "y")]
    files = {"model/model.onnx": model.SerializeToString()}
    manifest = write_engine_bundle(tmp_path / "b", "openvino", files, specs[:-1], specs[-1:])
    if known == "a":
        with pytest.raises(ModelRefused, match=r"inputs are \['a', 'b'\]"):
            ENGINE.load(tmp_path / "b", manifest, OPTIONS)
        return
    instance = ENGINE.load(tmp_path / "b", manifest, OPTIONS)
    for rows in (1, 2):
        one = np.full((rows, 3), 5, np.float32)
        assert np.array_equal(instance.run({"a": one, "b": 2 * one})["y"], 3 * one)
