"""Truths that are told later: what a client says of an answer that the model gave it before.

The fleet learns from them how often each release is right, without seeing inputs or answers: only counts by bins of
confidence leave the device, and where few answers have a truth, confidence fills in for the others (prediction-powered
inference, Angelopoulos et al. 2023).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from .refusal import Refusal

MAX_ROWS = 10_000


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sample: what was answered, how sure that was, and what is true."""

    predicted: int | str
    label: int | str
    confidence: float | None = None
    """The largest probability, 0 to 1; needed where the model counts confidence."""

    @property
    def is_right(self) -> bool:
        return self.predicted == self.label


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    rows: list[Label]


def parse_labels(body: bytes) -> list[Label]:
    """Return the labels in a request's body.

    Raises:
        Refusal: 400, not such an object, or more than `MAX_ROWS`.
    """
    try:
        rows = msgspec.json.decode(body, type=Labels).rows
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400, f'expected {{"rows": [{{"predicted": 3, "label": 5, "confidence": 0.8}}]}}: {error}'
        ) from error
    if len(rows) > MAX_ROWS:
        raise Refusal(400, f"{len(rows)} rows in one request; at most {MAX_ROWS} are taken")
    return rows


def bin_of(told: Label, edges: Sequence[float]) -> int:
    """Return the bin of confidence that a sample counts in.

    Raises:
        Refusal: 400, there are bins and it has no confidence between 0 and 1.
    """
    if not edges:
        return 0
    if told.confidence is None or not math.isfinite(told.confidence) or not 0 <= told.confidence <= 1:
        raise Refusal(400, f"'confidence' is {told.confidence}; this model's labels are counted by it: 0 to 1")
    return bisect_right(edges, told.confidence)
