"""The drift reference: what inputs and outputs looked like on the calibration data, as histograms with fixed edges.

Devices count on the same edges, so adding histograms of any number of devices is exact. No numpy here: the agent and
the fleet read references too. Counting is in `observe`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import cbor2
import msgspec

from .errors import DriftReferenceError, TooLargeError, UnsupportedFormatError
from .files import read_bounded, write_atomically

REFERENCE_VERSION = 1
MAX_REFERENCE_BYTES = 1 << 20
MAX_HISTOGRAMS = 1024
MAX_CELLS = 65_536

Statistic = Literal["column", "mean", "std", "min", "max", "nonfinite", "class", "confidence"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one number per sample is computed from a tensor."""

    tensor: str
    statistic: Statistic
    """`column`: the value in column `index`. `mean`, `std`, `min`, `max`, `nonfinite` (a fraction): over the sample, or
    over channel `index` of axis `axis`. `class`: the column of the largest score. `confidence`: the largest
    probability."""
    index: int | None = None
    axis: int | None = None
    stride: int = 1
    """Every `stride`-th value in C order is used: bounds the work on large tensors."""
    softmax: bool = False
    """Scores are turned into probabilities first."""


class Histogram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts of one number per sample."""

    name: str
    role: Literal["input", "output"]
    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...]
    """Numeric: inner edges, rising; bin i holds edges[i-1] <= value < edges[i]; the outer bins are open, NaN counts in
    the last. Categorical: empty."""
    counts: tuple[int, ...]
    """One more than edges; categorical: one for each class, and classes past the end count in the last."""
    source: Source


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """reference.cbor."""

    version: int = REFERENCE_VERSION
    histograms: tuple[Histogram, ...]
    confidence_table: tuple[float, ...] | None = None
    """How often the model was right in each bin of the (first) confidence histogram; None without labels."""

    @property
    def cells(self) -> int:
        """Number of counters of all histograms together."""
        return sum(len(histogram.counts) for histogram in self.histograms)


def confidence_histogram(reference: Reference) -> Histogram | None:
    """Return the histogram that labels are counted by: the first one of confidence."""
    return next((each for each in reference.histograms if each.source.statistic == "confidence"), None)


def encode_reference(reference: Reference) -> bytes:
    """Canonical CBOR (RFC 7049 section 3.9: shortest numbers, keys by length and then by bytes)."""
    check_reference(reference)
    return cbor2.dumps(msgspec.to_builtins(reference), canonical=True)


def decode_reference(data: bytes) -> Reference:
    """Read and check a drift reference.

    Raises:
        TooLargeError: more bytes than any reference has.
        UnsupportedFormatError: another version.
        DriftReferenceError: not CBOR, not canonical, or inconsistent.
    """
    if len(data) > MAX_REFERENCE_BYTES:
        raise TooLargeError(f"reference.cbor: {len(data)} bytes; at most {MAX_REFERENCE_BYTES} are read.")
    plain = _parse(data)
    version = plain.get("version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version != REFERENCE_VERSION:
        raise UnsupportedFormatError(
            f"reference.cbor: version {version}; this edgewright reads {REFERENCE_VERSION}. Update it."
        )
    try:
        reference = msgspec.convert(plain, Reference, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise DriftReferenceError(f"reference.cbor: {error}.") from error
    if encode_reference(reference) != data:
        raise DriftReferenceError("reference.cbor: not in canonical CBOR: it was not written by edgewright.")
    return reference


def read_reference(source: bytes | Path) -> Reference:
    """Read a drift reference from its bytes or from a file; see `decode_reference`."""
    if isinstance(source, Path):
        source = read_bounded(source, MAX_REFERENCE_BYTES)
    return decode_reference(source)


def write_reference(path: Path, reference: Reference) -> None:
    """Write reference.cbor; the file appears whole or not at all."""
    write_atomically(path, encode_reference(reference))


def check_reference(reference: Reference) -> None:
    """Raise `DriftReferenceError` where the parts do not fit together."""
    if len(reference.histograms) > MAX_HISTOGRAMS or reference.cells > MAX_CELLS:
        raise DriftReferenceError(
            f"reference.cbor: {len(reference.histograms)} histograms with {reference.cells} cells; at most "
            f"{MAX_HISTOGRAMS} with {MAX_CELLS} are accepted."
        )
    for histogram in reference.histograms:
        _check_histogram(histogram)
    _check_confidence_table(reference)


def _check_histogram(histogram: Histogram) -> None:
    where = f"reference.cbor: histogram {histogram.name[:80]!r}"
    if histogram.kind == "categorical":
        if histogram.edges or not histogram.counts:
            raise DriftReferenceError(f"{where}: a categorical histogram has counts and no edges.")
    elif len(histogram.counts) != len(histogram.edges) + 1:
        raise DriftReferenceError(
            f"{where}: expected {len(histogram.edges) + 1} counts for {len(histogram.edges)} inner edges, got "
            f"{len(histogram.counts)}."
        )
    if any(not 0 <= count < 2**63 for count in histogram.counts):
        raise DriftReferenceError(f"{where}: a count is negative or too large.")
    if not all(math.isfinite(edge) for edge in histogram.edges):
        raise DriftReferenceError(f"{where}: an edge is not a finite number.")
    if any(left >= right for left, right in zip(histogram.edges, histogram.edges[1:], strict=False)):
        raise DriftReferenceError(f"{where}: the edges do not rise.")
    _check_source(histogram.source, where)


def _check_source(source: Source, where: str) -> None:
    numbers = [value for value in (source.index, source.axis) if value is not None]
    if source.stride < 1 or any(value < 0 for value in numbers) or (source.axis is not None and source.index is None):
        raise DriftReferenceError(f"{where}: the source names an impossible column, channel or stride.")
    if source.statistic == "column" and source.index is None:
        raise DriftReferenceError(f"{where}: the source names no column.")


def _check_confidence_table(reference: Reference) -> None:
    table = reference.confidence_table
    if table is None:
        return
    bins = next((len(h.counts) for h in reference.histograms if h.source.statistic == "confidence"), None)
    if len(table) != bins or not all(0 <= accuracy <= 1 for accuracy in table):
        raise DriftReferenceError(
            f"reference.cbor: the confidence table has {len(table)} values for {bins} confidence bins, "
            "or one outside 0 to 1."
        )


def _refuse_sharing(*_: Any) -> Any:
    raise ValueError("shared values are not allowed")


def _parse(data: bytes) -> Any:
    # Shared values (tags 28, 29) could make a small file huge once written out; every other tag fails the conversion.
    refused = dict.fromkeys((25, 28, 29, 256), _refuse_sharing)
    try:
        return cbor2.loads(
            data,
            max_depth=8,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=refused,
        )
    except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError) as error:
        raise DriftReferenceError(f"reference.cbor: not valid CBOR: {error}.") from error
