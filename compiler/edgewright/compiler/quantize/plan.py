"""The plan: what every operator computes in, and the numbers of every tensor that is stored as integers.

A plan is data. It is proposed from a float graph and its statistics (`propose.py`), repaired by accuracy control,
written to and read from a file that people edit (`planfile.py`), and turned into a model by an emitter (`emit.py`).

Rules that emitters keep:

- A tensor with an encoding is rounded to it wherever an integer operator reads it. If an integer operator makes it, it
  is rounded for everyone; if a float operator makes it, float readers still see the float values.
- An operator that is `int8` or `int16` reads every activation that has an encoding as integers, and its weight by its
  own `weight` encoding. Its bias becomes int32 with scale (input scale * weight scale).
- `dynamic` and `weights` use the weight's encoding only.
- Operators that are not named compute in float.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .scheme import ActivationType, Calibrator, Scheme, WeightType

FORMAT_VERSION = 1

Compute = Literal["int8", "int16", "dynamic", "weights", "float"]
Scale = Annotated[float, Meta(gt=0, lt=1e30)]
Shift = Annotated[float, Meta(gt=-1e30, lt=1e30)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]

INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int4": (-8, 7),
}


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only; unknown keys are refused."""


class Encoding(_Part, frozen=True, kw_only=True):
    """How one activation is stored: real value = (integer - zero_point) * scale."""

    type: ActivationType
    scale: Scale
    zero_point: int
    calibrator: Calibrator | Literal["given", "shared", "format"] = "given"
    """Where the numbers come from; `given` where a person wrote them, `shared` where neighbours have the same,
    `format` where the format that the plan is emitted to knows no others."""
    reason: str = ""
    """Why the numbers are not the tensor's own."""

    @property
    def low(self) -> float:
        """The smallest value that it holds."""
        return (INTEGER_RANGES[self.type][0] - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The largest value that it holds."""
        return (INTEGER_RANGES[self.type][1] - self.zero_point) * self.scale


class WeightEncoding(_Part, frozen=True, kw_only=True):
    """How one weight is stored: symmetric, so that its zero point is 0 (128 for uint8)."""

    type: WeightType
    axis: int | None = None
    """Of the output channels in the weight's own shape; None for one scale."""
    scale: tuple[Scale, ...]
    """One, or one per channel; with `block_size`, channel by channel the scales of its blocks."""
    block_size: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    """Weights along the reduced axis that share a scale; None where a channel has one scale."""
    pair_peaks: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = ()
    """Where neighbouring products share a 16-bit sum: the largest raw activation (counted from its type's lowest value)
    of each input channel, up to which no pair of rounded weights may overflow. Empty where sums are wide."""


class Operator(_Part, frozen=True, kw_only=True):
    """How one node computes."""

    compute: Compute
    weight: WeightEncoding | None = None
    bias_correction: tuple[Shift, ...] = ()
    """Added to the bias, per output channel: what rounding the weights shifts on average."""
    reason: str = ""
    """Why it is not what the scheme says."""


class Equalization(_Part, frozen=True, kw_only=True):
    """Weights are divided by `factors` where they make a tensor and multiplied where they read it, per channel."""

    producer: Name
    """Node whose output channels are divided."""
    consumers: tuple[Name, ...]
    """Nodes whose input channels are multiplied."""
    factors: tuple[Scale, ...]


class Plan(_Part, frozen=True, kw_only=True):
    """Everything that an emitter needs beside the float graph."""

    format_version: int = FORMAT_VERSION
    model_digest: str
    """Of the float graph that it was made for; names are only safe to use with that graph."""
    scheme: Scheme
    equalizations: tuple[Equalization, ...] = ()
    """Applied to the float graph, in this order, before anything is rounded."""
    operators: dict[Name, Operator] = {}
    """By node name."""
    tensors: dict[Name, Encoding] = {}
    """By value name; activations only."""
