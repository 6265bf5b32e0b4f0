"""ONNX in: a file from anywhere is bounded, checked, and cleaned of what would leak or vary.

External data must lie beneath the model's folder. Operators of unknown domains are refused by name, because no engine
here can run them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.checker
import onnx.version_converter
import onnx_ir.passes.common as common
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgewright.targets.faults import Fault

from ..faults import ModelError, UnsupportedModel, first_line
from ..graph import IR_VERSION, Graph, from_proto, nodes, place, signature
from .source import SourceModel

MAX_MODEL_BYTES = 2 * 1024**3 - 1
"""Protobuf itself ends here."""
MAX_NODES = 200_000
OLDEST_OPSET = 7
WORKING_OPSET = 17
"""Models older than `QDQ_OPSET` are brought here; newer ones stay as they are."""
QDQ_OPSET = 13
"""Per-channel QuantizeLinear exists from here on."""
NEWEST_OPSET = 23
"""Newest opset that has been quantized, run and compared here, in the oldest ONNX Runtime that bundles allow."""
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def load_onnx(path: Path) -> SourceModel:
    """Reads a model file.

    Raises:
        ModelError: unreadable, damaged, too large, or external data outside its folder.
        UnsupportedModel: an operator domain, opset or tensor type that cannot be compiled.
    """
    content = _read(path)
    proto = _parse(path, content)
    digest = hashlib.sha256(content)
    for location in sorted(_resolve_external(path, proto)):
        digest.update(location.read_bytes())
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise ModelError(f"{path}: external data cannot be read: {first_line(error)}") from error
    return SourceModel(
        graph=import_proto(proto, str(path)),
        name=path.stem,
        digest=f"sha256:{digest.hexdigest()}",
        format="onnx",
    )


def import_proto(proto: onnx.ModelProto, where: str) -> Graph:
    """Checks a parsed model and normalises it: opset, no weights among the inputs, no functions, no prose."""
    try:
        _check_opsets(proto, where)
        onnx.checker.check_model(proto)
        return _normalised(_converted(proto, where), where)
    except Fault:
        raise
    except Exception as error:
        # Checker, converter and shape inference have exception classes of their own, and on damaged files they raise
        # any others as well (UnicodeDecodeError, TypeError): at this border all of them mean the same.
        raise ModelError(f"{where}: not a valid ONNX model: {first_line(error)}") from error


def _normalised(proto: onnx.ModelProto, where: str) -> Graph:
    graph = from_proto(proto)
    common.RemoveInitializersFromInputsPass()(graph)
    common.InlinePass()(graph)
    common.ClearMetadataAndDocStringPass()(graph)
    common.ShapeInferencePass()(graph)
    _check_domains(graph, where)
    graph.metadata_props.clear()
    graph.doc_string = graph.graph.doc_string = None
    graph.producer_name = "edgewright"
    graph.producer_version = None
    graph.ir_version = IR_VERSION
    signature(graph)
    return graph


def _read(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path}: not a file")
        if size_bytes > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: {size_bytes} bytes; at most {MAX_MODEL_BYTES} can be one ONNX file")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX file, or a damaged one ({first_line(error)})") from error
    if not proto.graph.node or not proto.graph.output:
        raise ModelError(f"{path}: not an ONNX file, or one without nodes and outputs")
    if sum(1 for _ in _node_protos(proto)) > MAX_NODES:
        raise ModelError(f"{path}: more than {MAX_NODES} nodes")
    return proto


def _check_opsets(proto: onnx.ModelProto, where: str) -> None:
    version = _default_opset(proto)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise UnsupportedModel(
            f"{where}: opset {version} of the standard operators; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are read. "
            f"Export the model again, for example with opset_version={WORKING_OPSET}"
        )


def _default_opset(proto: onnx.ModelProto) -> int:
    versions = [int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def _converted(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    version = _default_opset(proto)
    if version >= QDQ_OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, WORKING_OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        # The converter has no adapter for some operator.
        raise UnsupportedModel(
            f"{where}: opset {version} cannot be brought to {WORKING_OPSET}: {first_line(error)}. "
            f"Export the model again with opset_version={WORKING_OPSET}"
        ) from error


def _check_domains(graph: Graph, where: str) -> None:
    for node in nodes(graph):
        if node.domain not in STANDARD_DOMAINS:
            raise UnsupportedModel(
                f"{where}: operator {node.domain}:{node.op_type} at {place(node)}: domain {node.domain!r} is a custom "
                "one, and no engine here has its code. Replace it by standard ONNX operators when exporting"
            )


def _resolve_external(path: Path, proto: onnx.ModelProto) -> set[Path]:
    """The files that hold external tensors; each must lie beneath the model's folder."""
    root = path.parent.resolve()
    found: set[Path] = set()
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        file = (root / location).resolve()
        if not location or Path(location).is_absolute() or not file.is_relative_to(root):
            raise ModelError(
                f"{path}: weights {tensor.name!r} point to {location!r}, outside of the model's folder; "
                "external data must lie beside the model"
            )
        if not file.is_file():
            raise ModelError(f"{path}: weights {tensor.name!r} need {location!r}, which is not there; copy it too")
        found.add(file)
    total_bytes = sum(file.stat().st_size for file in found)
    if total_bytes > MAX_MODEL_BYTES:
        raise ModelError(f"{path}: {total_bytes} bytes of external data; at most {MAX_MODEL_BYTES} are read")
    return found


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    pending = [proto.graph]
    while pending:
        graph = pending.pop()
        yield graph
        pending += [inner for node in graph.node for inner in _subgraphs(node)]
    for function in proto.functions:
        yield onnx.GraphProto(node=function.node)
        inner_graphs = [inner for node in function.node for inner in _subgraphs(node)]
        while inner_graphs:
            graph = inner_graphs.pop()
            yield graph
            inner_graphs += [inner for node in graph.node for inner in _subgraphs(node)]


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _node_protos(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(proto):
        yield from graph.node


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
