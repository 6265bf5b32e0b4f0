"""Brings the standard operators of a model to an opset that the compiler works in.

Models of opset 13 to 23 stay as they are. Older ones go up, newer ones down, by the converter of the onnx package.
Where that converter is known to be wrong, this file puts it right or refuses:

- Resize of opset 10 and Upsample count pixels from the corner ("asymmetric", rounding down), newer Resize from the
  centre; the converter does not say so.
- Hardmax before opset 13 treats all axes from `axis` on as one; the converter leaves the node as it is.
- BatchNormalization with `spatial = 0` (before opset 9) has no successor.
- Scan of opset 8 has a batch axis, newer Scan has none; the converter leaves the node as it is.
"""

from __future__ import annotations

import onnx
import onnx.version_converter

from ..faults import UnsupportedModel, first_line
from .protos import nodes

OLDEST_OPSET = 7
"""What every engine reads at least."""
WORKING_OPSET = 17
"""Models older than `QDQ_OPSET` are brought here."""
QDQ_OPSET = 13
"""Per-channel QuantizeLinear exists from here on."""
NEWEST_OPSET = 23
"""Newest opset that has been quantized, run and compared here, in the oldest ONNX Runtime that bundles allow."""

_RESIZE_FROM_CENTRE_OPSET = 11
_AXIS_ALONE_OPSET = 13
_ALWAYS_SPATIAL_OPSET = 9
_SCAN_WITHOUT_BATCH_OPSET = 9


def default_opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operators; 0 where the model does not say."""
    versions = [int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def check_opset(proto: onnx.ModelProto, where: str) -> None:
    """Raises where the opset is none that `converted` starts from.

    Raises:
        UnsupportedModel: older than `OLDEST_OPSET`, or newer than the onnx package knows.
    """
    version, newest = default_opset(proto), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise UnsupportedModel(
            f"{where}: opset {version} of the standard operators; opsets {OLDEST_OPSET} to {newest} are read. "
            f"Export the model again, for example with opset_version={WORKING_OPSET}"
        )


def converted(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model in an opset from `QDQ_OPSET` to `NEWEST_OPSET`; the one given where it is.

    Raises:
        UnsupportedModel: an operator that the converter cannot bring over; the message names it.
    """
    version = default_opset(proto)
    if QDQ_OPSET <= version <= NEWEST_OPSET:
        return proto
    _check_convertible(proto, version, where)
    target = WORKING_OPSET if version < QDQ_OPSET else NEWEST_OPSET
    try:
        result = onnx.version_converter.convert_version(proto, target)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        # The converter has no adapter for some operator.
        raise UnsupportedModel(
            f"{where}: opset {version} cannot be brought to {target}: {_plain(error)}. "
            f"Export the model again with opset_version={target}"
        ) from error
    if version < _RESIZE_FROM_CENTRE_OPSET:
        _resize_from_corner(result)
    return result


def _plain(error: Exception) -> str:
    """The converter's reason without the place in its own source that it starts with."""
    return first_line(error).rpartition("Assertion `false` failed: ")[2]


def _check_convertible(proto: onnx.ModelProto, version: int, where: str) -> None:
    for node in nodes(proto):
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "Hardmax" and version < _AXIS_ALONE_OPSET:
            raise _refused(where, node, version, "it works on several axes at once there")
        if node.op_type == "Scan" and version < _SCAN_WITHOUT_BATCH_OPSET:
            raise _refused(where, node, version, "it works on batches there")
        if node.op_type == "BatchNormalization" and version < _ALWAYS_SPATIAL_OPSET:
            spatial = attributes.get("spatial")
            if spatial is not None and spatial.i == 0:
                raise _refused(where, node, version, "it has statistics per pixel (spatial = 0)")


def _refused(where: str, node: onnx.NodeProto, version: int, reason: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{where}: {node.op_type} {node.name!r} (gives {', '.join(node.output)}) of opset {version} has no newer form: "
        f"{reason}. Export the model again with opset_version={WORKING_OPSET}"
    )


def _resize_from_corner(proto: onnx.ModelProto) -> None:
    for node in nodes(proto):
        if node.op_type == "Resize" and not any(entry.name.startswith("coordinate") for entry in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))
