"""ONNX in: a file from anywhere is bounded, checked, and cleaned of what would leak or vary.

External data must lie beneath the model's folder; large external data stays on disk (`external_data.py`). Operators of
unknown domains are refused by name, because no engine here can run them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import onnx.checker
import onnx_ir.passes.common as common
from google.protobuf.message import DecodeError

from edgewright.targets.faults import Fault

from ..faults import ModelError, UnsupportedModel, first_line
from ..graph import IR_VERSION, Graph, from_proto, nodes, place, signature
from ..quantize.corrections.record import KEY
from ..shapes import infer_shapes
from . import protos
from .external_data import ExternalTensor, find_external, put_back, read_small, take_out
from .opset import check_opset, converted
from .source import SourceModel
from .values import check_sizes, check_weights

MAX_MODEL_BYTES = 2 * 1024**3 - 1
"""Of the ONNX file itself: protobuf ends here. Larger models keep their weights in external data."""
MAX_NODES = 200_000
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
CHUNK_BYTES = 1 << 20


def load_onnx(path: Path) -> SourceModel:
    """Reads a model file.

    Raises:
        ModelError: unreadable, damaged, too large, external data that does not fit, or weights that are not numbers.
        UnsupportedModel: an operator domain, opset or tensor type that cannot be compiled.
    """
    content = _read(path)
    proto = _parse(path, content)
    external = find_external(path, proto)
    digest = _digest(content, external)
    large = read_small(path, external)
    return SourceModel(
        graph=import_proto(proto, str(path), large),
        name=path.stem,
        digest=digest,
        format="onnx",
    )


def import_proto(proto: onnx.ModelProto, where: str, large: tuple[ExternalTensor, ...] = ()) -> Graph:
    """Checks a parsed model and normalises it: opset, no weights among the inputs, no functions, no prose.

    `large` are weights of the model that stay on disk.
    """
    try:
        check_opset(proto, where)
        take_out(proto, large)
        onnx.checker.check_model(proto)
        graph = _normalised(converted(proto, where))
        put_back(graph, large)
        _check(graph, where)
        return graph
    except Fault:
        raise
    except Exception as error:
        # Checker, converter and shape inference have exception classes of their own, and on damaged files they raise
        # any others as well (UnicodeDecodeError, TypeError): at this border all of them mean the same.
        raise ModelError(f"{where}: not a valid ONNX model: {first_line(error)}") from error


def _normalised(proto: onnx.ModelProto) -> Graph:
    graph = from_proto(proto)
    common.RemoveInitializersFromInputsPass()(graph)
    common.InlinePass()(graph)
    common.ClearMetadataAndDocStringPass()(graph)
    infer_shapes(graph)
    factors = graph.metadata_props.get(KEY)
    graph.metadata_props.clear()
    if factors is not None:
        graph.metadata_props[KEY] = factors  # not prose: it says how to read the tensors of a model of ours
    graph.doc_string = graph.graph.doc_string = None
    graph.producer_name = "edgewright"
    graph.producer_version = None
    graph.ir_version = IR_VERSION
    return graph


def _check(graph: Graph, where: str) -> None:
    _check_domains(graph, where)
    signature(graph)
    check_sizes(graph, where)
    check_weights(graph, where)


def _read(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path}: not a file")
        if size_bytes > MAX_MODEL_BYTES:
            raise ModelError(
                f"{path}: {size_bytes} bytes; at most {MAX_MODEL_BYTES} can be one ONNX file. Save it with "
                "onnx.save(model, path, save_as_external_data=True)"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX file, or a damaged one ({first_line(error)})") from error
    if not proto.graph.output:
        raise ModelError(f"{path}: not an ONNX file, or one without outputs")
    if not proto.graph.node:
        raise ModelError(
            f"{path}: the model has no operators, its outputs are its inputs or constants; nothing is to compile. "
            "Export the trained model"
        )
    if sum(1 for _ in protos.nodes(proto)) > MAX_NODES:
        raise ModelError(f"{path}: more than {MAX_NODES} nodes")
    return proto


def _digest(content: bytes, external: tuple[ExternalTensor, ...]) -> str:
    found = hashlib.sha256(content)
    for location in sorted({tensor.file for tensor in external}):
        with location.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def _check_domains(graph: Graph, where: str) -> None:
    for node in nodes(graph):
        if node.domain not in STANDARD_DOMAINS:
            raise UnsupportedModel(
                f"{where}: operator {node.domain}:{node.op_type} at {place(node)}: domain {node.domain!r} is a custom "
                "one, and no engine here has its code. Replace it by standard ONNX operators when exporting"
            )
