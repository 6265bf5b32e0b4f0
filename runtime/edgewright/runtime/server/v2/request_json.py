"""The JSON of an inference request, as the protocol has it: names and types of its members, and nothing of the model.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import msgspec

from ..refusal import Refusal

Parameters = dict[str, str | float | int | bool | None]

_NOTHING = msgspec.Raw()


class Input(msgspec.Struct):
    """One input; its data are read once it is known what they must be."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = _NOTHING


class Output(msgspec.Struct):
    """One output that is asked for."""

    name: str
    parameters: Parameters | None = None


class Infer(msgspec.Struct):
    """A request."""

    inputs: list[Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Output] | None = None


class FlatInput(msgspec.Struct):
    """One input whose data are a flat list of numbers, already read."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]
    parameters: Parameters | None = None


class FlatInfer(msgspec.Struct):
    """A request whose inputs are all flat lists of numbers."""

    inputs: list[FlatInput]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Output] | None = None


_decoder = msgspec.json.Decoder(Infer)
_flat_decoder = msgspec.json.Decoder(FlatInfer)


def read_json(text: bytes) -> Infer:
    """Return what the text says.

    Raises:
        Refusal: 400, it is no inference request.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"not an inference request: {error}") from error
    except RecursionError as error:
        raise Refusal(400, "the JSON is nested too deep") from error


def read_flat_json(text: bytes) -> FlatInfer | None:
    """Return what the text says, read in one pass instead of two; None where it is of another form, or of none."""
    try:
        parsed = _flat_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if any("binary_data_size" in (each.parameters or ()) for each in parsed.inputs) else parsed
