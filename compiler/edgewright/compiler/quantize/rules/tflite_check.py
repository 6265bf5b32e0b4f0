"""What a plan that somebody edited asks of TFLite that its kernels do not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...clamp import MAX_ABSORBED_SHARE_OF_STEP, bounds_of
from ..plan import Encoding, Plan
from .rules import Complaint
from .tflite_encodings import Rounded
from .tflite_facts import FIXED, JOINING, KEEPING

INTEGER = frozenset({"int8", "int16"})


def complaints(plan: Plan, around: Sequence[Rounded]) -> Iterator[Complaint]:
    """Of a plan, in the order of the graph; `around` are its integer operators."""
    for name, encoding in plan.tensors.items():
        yield from _of_encoding(name, encoding)
    for each in around:
        yield from _of_weight(plan, each)
        missing = next((value for value in (*each.reads, *each.gives) if value.name not in plan.tensors), None)
        if missing is not None:
            yield Complaint(
                f"operator {each.node.name!r} is {plan.scheme.activations}, but {missing.name!r}, which it reads or "
                "gives, has no entry under [tensors]: TFLite then computes it in float",
                f"give {missing.name!r} an entry, or write compute = 'float'",
            )
        else:
            yield from _of_results(plan, each)


def _of_encoding(name: str, encoding: Encoding) -> Iterator[Complaint]:
    if encoding.type not in INTEGER:
        yield Complaint(f"tensor {name!r} is {encoding.type}; TFLite has int8 and int16", "write int8", refused=True)
    elif encoding.type == "int16" and encoding.zero_point != 0:
        yield Complaint(
            f"tensor {name!r} is int16 with zero_point {encoding.zero_point}; TFLite's kernels know only 0",
            "write zero_point = 0 and a scale that holds the larger side",
            refused=True,
        )


def _of_weight(plan: Plan, each: Rounded) -> Iterator[Complaint]:
    operator = plan.operators[each.node.name or ""]
    if operator.weight is not None and operator.weight.type != "int8":
        yield Complaint(
            f"operator {each.node.name!r} has {operator.weight.type} weights; TFLite's integer kernels take int8",
            "write weight.type = 'int8'",
            refused=True,
        )


def _of_results(plan: Plan, each: Rounded) -> Iterator[Complaint]:
    read = [(value.name or "", plan.tensors[value.name or ""]) for value in each.reads]
    given = [(value.name or "", plan.tensors[value.name or ""]) for value in each.gives]
    kinds = {encoding.type for _, encoding in (*read, *given)}
    if len(kinds) > 1:
        yield Complaint(
            f"operator {each.node.name!r} reads and gives {' and '.join(sorted(kinds))}: TFLite then computes it in "
            "float",
            "give all its tensors one type",
        )
        return
    for name, encoding in given:
        fixed = FIXED.get(each.node.op_type, {}).get(encoding.type)
        if fixed is not None and not _same(encoding, *fixed):
            yield _requantized(each, name, fixed)
    yield from _of_shared(each, read, given)
    yield from _of_clamp(each, given)


def _of_shared(
    each: Rounded, read: Sequence[tuple[str, Encoding]], given: Sequence[tuple[str, Encoding]]
) -> Iterator[Complaint]:
    """Movements always; what joins only where a person wrote the numbers: a proposal may leave an input out."""
    if each.node.op_type in KEEPING and read:
        name, first = read[0]
        others = [other for other in given if not _same(other[1], first.scale, first.zero_point)]
    elif each.node.op_type in JOINING and given:
        name, first = given[0]
        others = [other for other in read if not _same(other[1], first.scale, first.zero_point)]
        others = [other for other in others if "given" in (other[1].calibrator, first.calibrator)]
    else:
        return
    if others:
        yield _requantized(each, others[0][0], (first.scale, first.zero_point), f" of {name!r}")


def _requantized(each: Rounded, name: str, numbers: tuple[float, int], whose: str = "") -> Complaint:
    return Complaint(
        f"tensor {name!r}: {each.node.op_type} {each.node.name!r} gives other numbers in TFLite, so that one more "
        "operator has to round them again",
        f"write scale = {numbers[0]:.9g} and zero_point = {numbers[1]}, the numbers{whose or ' that it gives'}",
    )


def _of_clamp(each: Rounded, given: Sequence[tuple[str, Encoding]]) -> Iterator[Complaint]:
    """A clamp that no kernel has: only the rounding can do it."""
    clamp = next((use.node for use in each.node.outputs[0].uses()), None) if each.only_rounding_clamps else None
    bounds = None if clamp is None else bounds_of(clamp)
    if clamp is None or bounds is None or not given:
        return
    name, encoding = given[0]
    tolerance = MAX_ABSORBED_SHARE_OF_STEP * encoding.scale
    if encoding.low < bounds[0] - tolerance or encoding.high > bounds[1] + tolerance:
        yield Complaint(
            f"tensor {name!r} reaches from {encoding.low:.6g} to {encoding.high:.6g}, but {clamp.op_type} "
            f"{clamp.name!r} clamps to {bounds[0]:.6g} to {bounds[1]:.6g}: TFLite then computes in float",
            "give it a range within these bounds",
        )


def _same(encoding: Encoding, scale: float, zero_point: int) -> bool:
    return encoding.scale == scale and encoding.zero_point == zero_point
