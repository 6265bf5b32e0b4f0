"""Statistics as bytes, for a cache: MessagePack, arrays as little-endian bytes; equal statistics give equal bytes."""

from __future__ import annotations

import math
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .statistics import MAX_BINS, SMALLEST_EXPONENT, ChannelStatistics, Histogram, Statistics, TensorStatistics

FORMAT_VERSION = 1
MAX_BYTES = 256 << 20
"""About 8 000 tensors with full histograms."""
LARGEST_EXPONENT = 128

Name = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0)]
Number = TypeVar("Number", bound=np.generic)


class _Tensor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: Name
    low: float
    high: float
    not_finite: Count
    exponent: Annotated[int, Meta(ge=SMALLEST_EXPONENT, le=LARGEST_EXPONENT)]
    first: Annotated[int, Meta(ge=-MAX_BINS, le=MAX_BINS)]
    counts: Annotated[bytes, Meta(max_length=8 * MAX_BINS)]


class _Channels(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: Name
    axis: Annotated[int, Meta(ge=-1, le=1)]
    low: bytes
    high: bytes
    mean: bytes


class _File(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    samples: Count
    tensors: tuple[_Tensor, ...]
    channels: tuple[_Channels, ...]


def encode(statistics: Statistics) -> bytes:
    """Sorted by name, so that equal statistics give equal bytes."""
    tensors = tuple(
        _Tensor(
            name,
            found.low,
            found.high,
            found.not_finite,
            found.histogram.exponent,
            found.histogram.first,
            found.histogram.counts.astype("<i8").tobytes(),
        )
        for name, found in sorted(statistics.tensors.items())
    )
    channels = tuple(
        _Channels(
            name,
            axis,
            found.low.astype("<f4").tobytes(),
            found.high.astype("<f4").tobytes(),
            found.mean.astype("<f8").tobytes(),
        )
        for (name, axis), found in sorted(statistics.channels.items())
    )
    return msgspec.msgpack.encode(_File(FORMAT_VERSION, statistics.samples, tensors, channels))


def decode(content: bytes) -> Statistics:
    """Reads what `encode` wrote.

    Raises:
        ValueError: too large, damaged, or of another version: collect the statistics again.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"statistics of {len(content)} bytes; at most {MAX_BYTES} are read")
    try:
        file = msgspec.msgpack.decode(content, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not statistics: {error}") from error
    if file.version != FORMAT_VERSION:
        raise ValueError(f"statistics of version {file.version}, expected {FORMAT_VERSION}")
    return Statistics(
        samples=file.samples,
        tensors={part.name: _tensor(part) for part in file.tensors},
        channels={(part.name, part.axis): _channels(part) for part in file.channels},
    )


def _tensor(part: _Tensor) -> TensorStatistics:
    counts = _array(part.counts, np.int64)
    if not (math.isfinite(part.low) and math.isfinite(part.high) and part.low <= part.high) or (counts < 0).any():
        raise ValueError(f"not statistics: {part.name!r} has a range or a count that cannot be")
    return TensorStatistics(part.low, part.high, part.not_finite, Histogram(part.exponent, part.first, counts))


def _channels(part: _Channels) -> ChannelStatistics:
    low, high, mean = _array(part.low, np.float32), _array(part.high, np.float32), _array(part.mean, np.float64)
    if not len(low) == len(high) == len(mean):
        raise ValueError(f"not statistics: {part.name!r} has {len(low)}, {len(high)} and {len(mean)} channels")
    return ChannelStatistics(low, high, mean)


def _array(content: bytes, dtype: type[Number]) -> NDArray[Number]:
    wanted = np.dtype(dtype)
    if len(content) % wanted.itemsize:
        raise ValueError(f"not statistics: {len(content)} bytes are no array of {wanted}")
    return np.frombuffer(content, wanted.newbyteorder("<")).astype(wanted)
