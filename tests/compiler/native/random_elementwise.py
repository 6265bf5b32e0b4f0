"""Random element-wise operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from .drawing import chance, clear, number, one_of
from .graph_writer import Writer

SMOOTH = (
    "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Softplus", "Mish", "Softsign", "Abs",
    "Neg", "Identity", "Sin", "Cos", "Elu", "Celu", "Selu", "Gelu", "Dropout", "Relu", "Sigmoid", "Relu",
)  # fmt: skip


def smooth(w: Writer) -> None:
    x, operator = w.pick(), one_of(w, *SMOOTH)
    attributes: dict[str, Any] = {}
    if operator in ("LeakyRelu", "Elu", "Celu") and chance(w, 0.5):
        attributes["alpha"] = float(w.random.uniform(0.05, 1.5))
    if operator == "Gelu":
        attributes["approximate"] = one_of(w, "none", "tanh")
    if x:
        w.node(operator, x, **attributes)


def exponential(w: Writer) -> None:
    x = w.pick()
    if x and w.values[x].max() < 6:
        w.node("Exp", x)


def positive(w: Writer) -> None:
    """Functions of numbers above zero, made so where they are not."""
    x = w.pick()
    if not x:
        return
    if w.values[x].min() < 0.1:
        (size,) = w.node("Abs", x) or [""]
        (x,) = w.node("Add", size, w.constant(np.float32(0.3))) if size else [""]
    if x:
        w.node(one_of(w, "Log", "Sqrt", "Reciprocal"), x)


def stepped(w: Writer) -> None:
    """Where values are not near a jump."""
    x, operator = w.pick(), one_of(w, "Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "Shrink")
    if not x:
        return
    array = w.values[x]
    jumps = {
        "Floor": array - np.rint(array), "Ceil": array - np.rint(array), "Round": array - np.floor(array) - 0.5,
        "Sign": array, "ThresholdedRelu": array - 0.7, "Shrink": np.abs(array) - 0.6,
    }  # fmt: skip
    attributes: dict[str, Any] = {"ThresholdedRelu": {"alpha": 0.7}, "Shrink": {"lambd": 0.6, "bias": 0.25}}.get(
        operator, {}
    )
    if clear(jumps[operator], array):
        w.node(operator, x, **attributes)


def clip(w: Writer) -> None:
    x = w.pick()
    low, high = w.constant(np.float32(w.random.uniform(-1, 0))), w.constant(np.float32(w.random.uniform(0, 6)))
    if x:
        w.node("Clip", x, *one_of(w, (low, high), (low,), ("", high)))


def prelu(w: Writer) -> None:
    x = w.pick(ranks=(2, 3, 4))
    if x:
        shape = w.values[x].shape
        w.node("PRelu", x, w.floats(shape[1], *(1,) * (len(shape) - 2)))


def partner(w: Writer, x: str) -> str:
    """Something that can be broadcast to x: another value of its shape, a new input, or a constant."""
    shape = w.values[x].shape
    same = [name for name, array in w.values.items() if array.shape == shape and array.dtype == np.float32]
    if len(same) > 1 and chance(w, 0.5):
        return str(w.random.choice(same))
    if shape and shape[0] == w.batch and chance(w, 0.15) and len(w.inputs) < 4:
        return w.input(w.random.normal(size=shape).astype(np.float32))
    small = [size if chance(w, 0.6) else 1 for size in shape][number(w, 0, len(shape)) :]
    if len(shape) > 1 and chance(w, 0.3):
        small = [1, shape[1], *(1,) * (len(shape) - 2)]
    others = [
        name for name, array in w.values.items()
        if array.dtype == np.float32 and array.ndim and _spreads(array.shape, shape)
    ]  # fmt: skip
    return str(w.random.choice(others)) if others and chance(w, 0.3) else w.floats(*small)


def _spreads(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    tail = shape[len(shape) - len(small) :]
    return len(small) <= len(shape) and all(a in (1, b) for a, b in zip(small, tail, strict=True))


def arithmetic(w: Writer) -> None:
    x, operator = (
        w.pick(),
        one_of(w, "Add", "Add", "Sub", "Mul", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Mod", "Pow"),
    )
    if not x:
        return
    y = partner(w, x)
    values = [x, y] if chance(w, 0.7) or operator in ("Div", "Mod", "Pow") else [y, x]
    divisor = w.values[y] if y in w.values else w.constants[y]
    if operator in ("Div", "Mod") and np.abs(divisor).min() < 0.05:
        return
    if operator == "Mod" and not clear(w.values[x] / divisor - np.rint(w.values[x] / divisor), w.values[x] / divisor):
        return
    if operator == "Pow":
        if w.values[x].min() < 0.1:
            return
        values[1] = w.constant(np.float32(one_of(w, 1, 2, 3, 0.5, -0.5, -1, 1.7)))
    if operator in ("Sum", "Mean", "Max") and chance(w, 0.4):
        values.append(partner(w, x))
    attributes: dict[str, Any] = {"fmod": 1} if operator == "Mod" else {}
    w.node(operator, *values, **attributes)


def compared(w: Writer) -> None:
    """A comparison, and often what it chooses."""
    x = w.pick()
    if not x:
        return
    y = partner(w, x)
    other = w.values[y] if y in w.values else w.constants[y]
    if not clear(w.values[x] - other, w.values[x]):
        return
    truth = w.node(one_of(w, "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"), x, y)
    if truth and chance(w, 0.7):
        w.node("Where", truth[0], *one_of(w, (x, y), (y, x)))


def logic(w: Writer) -> None:
    x = w.pick("b")
    if not x:
        w.node("IsNaN", w.pick() or "")
        return
    same = [name for name, array in w.values.items() if array.dtype == bool and array.shape == w.values[x].shape]
    operator = one_of(w, "And", "Or", "Xor", "Not", "Cast", "Where")
    if operator == "Cast":
        w.node("Cast", x, to=one_of(w, 1, 7))
    elif operator == "Where":
        shape = w.values[x].shape
        w.node("Where", x, w.floats(*shape), w.floats(*shape[-1:]))
    else:
        w.node(operator, *([x] if operator == "Not" else [x, str(w.random.choice(same))]))


def whole_numbers(w: Writer) -> None:
    """Integers: made from floats, computed with, and turned back."""
    x = w.pick("i") if chance(w, 0.7) else None
    if x is None:
        x = w.pick()
        if x and clear(w.values[x] - np.rint(w.values[x]), w.values[x]):
            w.node("Cast", x, to=7)
        return
    operator = one_of(w, "Add", "Sub", "Mul", "Min", "Max", "Neg", "Abs", "Cast", "ReduceSum", "ReduceMax", "Equal")
    if operator == "Cast":
        w.node("Cast", x, to=one_of(w, 1, 6))
    elif operator in ("Neg", "Abs"):
        w.node(operator, x)
    elif operator.startswith("Reduce"):
        w.node(operator, x, w.whole(number(w, 0, w.values[x].ndim - 1)), keepdims=number(w, 0, 1)) if w.values[
            x
        ].ndim else None
    else:
        w.node(operator, x, w.constant(np.array(number(w, -3, 3), np.int64)))
