"""What a comparison tells: the JSON of `edgewright diff --json`."""

from __future__ import annotations

import msgspec

FORMAT_VERSION = 1


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only."""


class LayerDifference(_Part, frozen=True, kw_only=True):
    """One tensor in both models."""

    name: str
    operator: str
    counterpart: str
    """The tensor of the second model."""
    matched_by: str
    """`name`, `absorbed` (beside an operator that is gone), or `order`."""
    snr_db: float
    """Of the second against the first, both from the model's inputs on; 200 where they are equal."""
    local_snr_db: float | None
    """The same where the second model's layer gets the first one's values: what this layer adds by itself. None where
    it could not be run so."""
    cosine: float
    largest_difference: float
    elements: int
    not_finite: int
    """Elements that are NaN or infinite in one of them: left out of the rest."""


class OutputDifference(_Part, frozen=True, kw_only=True):
    """One output of the models."""

    name: str
    counterpart: str
    exact_snr_db: float
    """Integer sums computed exactly: what the model file says."""
    engine_snr_db: float
    """As ONNX Runtime computes it on this machine."""


class Comparison(_Part, frozen=True, kw_only=True):
    """Two models, layer by layer, in the first one's order."""

    format_version: int = FORMAT_VERSION
    left: str
    right: str
    left_digest: str
    right_digest: str
    samples: int
    layers: tuple[LayerDifference, ...]
    outputs: tuple[OutputDifference, ...]
    left_only: tuple[str, ...]
    right_only: tuple[str, ...]

    @property
    def worst_first(self) -> tuple[LayerDifference, ...]:
        """The layers by their SNR."""
        return tuple(sorted(self.layers, key=lambda layer: layer.snr_db))


def encode(comparison: Comparison) -> bytes:
    """Canonical JSON."""
    return msgspec.json.format(msgspec.json.encode(comparison, order="sorted"), indent=2) + b"\n"


def shortened(text: str, characters: int) -> str:
    """The text in at most so many printable characters: the middle goes, because names differ at their ends."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    if len(clean) <= characters:
        return clean
    half = (characters - 1) // 2
    return f"{clean[:half]}…{clean[-half:]}"
