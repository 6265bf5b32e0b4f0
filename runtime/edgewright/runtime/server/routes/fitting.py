"""Whether one model can stand in for another: what a client sees of both must agree."""

from __future__ import annotations

from collections.abc import Mapping

from edgewright.bundle.manifest import TensorSpec

from ..pipeline import Signature

Specs = Mapping[str, TensorSpec]


def misfit(lead: Signature, other: Signature) -> str | None:
    """Why `other` cannot take every job of `lead`, or cannot answer as it; None where it can.

    Names and datatypes are the same; `other` takes every shape that `lead` takes, and gives none that `lead` does not.
    """
    return _differ("input", lead.inputs, other.inputs, narrow=other.inputs) or _differ(
        "output", lead.outputs, other.outputs, narrow=lead.outputs
    )


def _differ(kind: str, lead: Specs, other: Specs, *, narrow: Specs) -> str | None:
    """`narrow`: the side whose dimensions are either free or the same as the other's."""
    if lead.keys() != other.keys():
        return f"{kind}s are {_names(other)}, expected {_names(lead)}"
    wide = lead if narrow is other else other
    for name, spec in lead.items():
        came = other[name]
        if spec.datatype != came.datatype:
            return f"{kind} '{name}' is {came.datatype}, expected {spec.datatype}"
        if not _covers(narrow[name].shape, wide[name].shape):
            return f"{kind} '{name}' has the shape {list(came.shape)}, expected {list(spec.shape)}"
    return None


def _covers(free: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(free) == len(shape) and all(a in {-1, b} for a, b in zip(free, shape, strict=True))


def _names(specs: Specs) -> str:
    return ", ".join(f"'{name}'" for name in specs)
