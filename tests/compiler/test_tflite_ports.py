"""What real models bring to boards that run TFLite files: their ports, their precision, and what nobody has written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import compare, read_golden
from edgewright.bundle.manifest_json import decode_manifest
from edgewright.compiler.graph import to_bytes
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.quantize.emit import emit as emit_qdq
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.report.schema import TargetReport
from edgewright.compiler.request import Request
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.write import write
from edgewright.runtime.engines.catalog import find_engine
from edgewright.runtime.engines.protocol import LoadOptions
from tests.compiler import port_nets as nets
from tests.compiler.nets import optimised, statistics_of

pytest.importorskip("ai_edge_litert")
pytest.importorskip("ethosu.vela")

MakeRequest = Callable[..., Request]
Compile = Callable[..., tuple[TargetReport, ...]]
NPU, BOTH, HERE = "ethos-u55-128", "imx93", "host"


@pytest.fixture
def compiled(make_request: MakeRequest, tmp_path: Path) -> Compile:
    def run(
        model: onnx.ModelProto | bytes, samples: nets.Samples, *targets: str, suffix: str = ".onnx"
    ) -> tuple[TargetReport, ...]:
        path = tmp_path / f"net{suffix}"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        np.savez(tmp_path / "ports.npz", allow_pickle=False, **samples)
        engines = ("litert",) if targets == (HERE,) else None
        request = make_request(
            model=str(path), data=tmp_path / "ports.npz", targets=targets, engines=engines, max_drop=None
        )
        return compile_model(request).targets

    return run


def on_npu(target: TargetReport) -> None:
    """It ships for the NPU, and some candidate leaves nothing on the CPU."""
    assert target.chosen is not None, target.reason
    assert target.chosen.startswith("ethos-u-"), target.reason
    assert any(row.npu is not None and row.npu.left_on_cpu == () for row in target.candidates)


def passes_its_self_test(folder: Path) -> None:
    unpack(folder / "out" / "host.bundle", folder / "unpacked")
    manifest = decode_manifest((folder / "unpacked" / "manifest.json").read_bytes())
    engine = find_engine("litert").load(folder / "unpacked", manifest, LoadOptions())
    golden = read_golden(folder / "unpacked" / "golden.safetensors")
    assert compare(golden, engine.run(golden.inputs)).passed
    engine.close()


MODELS = {
    "a free batch": (nets.classifier(), nets.pictures()),
    "batches of four": (nets.classifier(4), nets.pictures()),
    "two inputs and three outputs": (nets.two_by_three(), nets.two_inputs()),
    "a matrix product alone": (nets.matrix_product(), nets.rows()),
    "an integer as output": (nets.largest(), nets.pictures()),
}


@pytest.mark.parametrize("name", MODELS)
def test_ports_of_every_kind_reach_the_npu(name: str, compiled: Compile) -> None:
    for target in compiled(*MODELS[name], NPU):
        on_npu(target)


@pytest.mark.parametrize("name", MODELS)
def test_ports_of_every_kind_ship_in_litert(name: str, compiled: Compile, tmp_path: Path) -> None:
    (target,) = compiled(*MODELS[name], HERE)
    assert target.exit_code == 0, target.reason
    passes_its_self_test(tmp_path)


def quantized_model() -> bytes:
    graph = optimised(nets.classifier())
    statistics = statistics_of(graph, nets.pictures())
    return to_bytes(emit_qdq(graph, propose(graph, statistics, Scheme(activations="int8", rules="tflite"))))


def quantized_tflite() -> bytes:
    graph = optimised(nets.classifier())
    statistics = statistics_of(graph, nets.pictures())
    return write(emit(emit_qdq(graph, propose(graph, statistics, Scheme(activations="int8", rules="tflite")))).model)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_quantized_model_ships_as_it_came(suffix: str, compiled: Compile, tmp_path: Path) -> None:
    content = quantized_model() if suffix == ".onnx" else quantized_tflite()
    samples = nets.pictures()
    if suffix == ".tflite":
        samples = {"x": samples["x"].transpose(0, 2, 3, 1)} if _is_channels_last(content) else samples
    npu, both = compiled(content, samples, NPU, BOTH, suffix=suffix)
    assert (npu.chosen, both.chosen) == ("ethos-u-int8", "ethos-u-int8")
    on_npu(npu)
    assert {row.name for row in npu.candidates} == {"ethos-u-int8"}
    (here,) = compiled(content, samples, HERE, suffix=suffix)
    assert here.chosen == "litert-int8"
    assert here.reason == "the model is quantized already; the model ships as it came"
    passes_its_self_test(tmp_path)


def _is_channels_last(content: bytes) -> bool:
    model = read(content, "the model")
    return model.tensors[model.inputs[0].tensor].shape[-1] == nets.PICTURE[0]


def test_half_precision_is_refused_with_a_remedy(compiled: Compile) -> None:
    model = nets.classifier(kind=TensorProto.FLOAT16)
    (npu,) = compiled(model, nets.pictures(np.float16), NPU)
    (here,) = compiled(model, nets.pictures(np.float16), HERE)
    assert (npu.exit_code, here.exit_code) == (4, 4)
    assert "Conv at node 'conv'" in npu.reason
    assert "only float32 is quantized: export it so for int8" in npu.reason
    assert "export the model in float32" in here.reason


def test_free_sizes_of_pictures_are_refused_with_a_remedy(compiled: Compile) -> None:
    (target,) = compiled(nets.classifier(sizes=("H", "W")), nets.pictures(), NPU)
    assert target.exit_code == 4
    assert "input 'x' has shape [N,3,H,W]" in target.reason
    assert "fix the others when you export the model" in target.reason


def test_an_lstm_is_named_where_it_stops_all_and_noted_where_it_does_not(compiled: Compile) -> None:
    npu, both = compiled(nets.recurrent(), nets.sequences(), NPU, BOTH)
    assert npu.exit_code == 4
    assert "LSTM at node 'memory'" in npu.reason
    assert "compile for another engine of the target, or replace the operator" in npu.reason
    assert both.exit_code == 0
    assert any("LSTM at node 'memory'" in note for note in both.notes)
