"""What is computed element by element: epilogues of products, and whole element-wise layers.

An expression is typed: f32 or s32 (a truth value is s32, 0 or -1, as vector comparisons give it). It becomes one C
statement per distinct sub-expression, on vectors of any number of lanes; every operation is a function or macro
`ew_<operation>_<type>x<lanes>` of `c/math.h`, rounded once per operation (no contraction), so that results are the
same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["f32", "s32"]


@dataclass(frozen=True)
class Accumulator:
    """The sum that a product gives, f32 or s32."""

    kind: Kind = "f32"


@dataclass(frozen=True)
class Row:
    """A constant per output channel: `rows[index]` of the layer."""

    index: int
    kind: Kind = "f32"


@dataclass(frozen=True)
class Beside:
    """The element of another tensor at the same place: `beside[index]` of the layer, converted to `kind`."""

    index: int
    kind: Kind = "f32"


@dataclass(frozen=True)
class Scalar:
    """One number; float32 values are written in hexadecimal, so that no digit is lost."""

    value: float | int
    kind: Kind = "f32"


@dataclass(frozen=True)
class Call:
    """An operation on expressions."""

    operation: str
    arguments: tuple[Expression, ...]

    @property
    def kind(self) -> Kind:
        """Of the result."""
        return OPERATIONS[self.operation].gives


Leaf = Accumulator | Row | Beside | Scalar
Expression = Leaf | Call


@dataclass(frozen=True)
class Operation:
    """Types of an operation."""

    takes: tuple[Kind, ...]
    gives: Kind


# fmt: off
_FLOATS_OF_ONE: Final = (
    "neg", "abs", "sqrt", "rsqrt", "reciprocal", "exp", "log", "tanh", "sigmoid", "erf", "softplus", "sin", "cos",
    "floor", "ceil", "round_even", "trunc", "sign",
)
_FLOATS_OF_TWO: Final = ("add", "sub", "mul", "div", "min", "max", "pow", "fmod")
_COMPARISONS: Final = ("less", "less_equal", "equal")
_INTEGERS_OF_TWO: Final = ("iadd", "isub", "imul", "imin", "imax", "and", "or", "xor", "iless", "iequal")
# fmt: on

OPERATIONS: Final[Mapping[str, Operation]] = {
    **{name: Operation(("f32",), "f32") for name in _FLOATS_OF_ONE},
    **{name: Operation(("f32", "f32"), "f32") for name in _FLOATS_OF_TWO},
    **{name: Operation(("f32", "f32"), "s32") for name in _COMPARISONS},
    **{name: Operation(("s32", "s32"), "s32") for name in _INTEGERS_OF_TWO},
    # first * second + third, rounded once where the machine has it
    "fma": Operation(("f32", "f32", "f32"), "f32"),
    "not": Operation(("s32",), "s32"),
    # truth value, then, else
    "select": Operation(("s32", "f32", "f32"), "f32"),
    "iselect": Operation(("s32", "s32", "s32"), "s32"),
    "to_f32": Operation(("s32",), "f32"),
    # rounded half to even, as cvtps2dq; |x| < 2^31
    "to_s32_even": Operation(("f32",), "s32"),
    "to_s32_trunc": Operation(("f32",), "s32"),
}


def call(operation: str, *arguments: Expression) -> Call:
    """An operation, with the types of its arguments checked.

    Raises:
        ValueError: no such operation, or arguments of other types.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"no operation {operation!r}")
    takes = OPERATIONS[operation].takes
    found = tuple(argument.kind for argument in arguments)
    if found != takes:
        raise ValueError(f"{operation} takes {takes}, not {found}")
    return Call(operation, arguments)


def leaves(expression: Expression) -> Iterator[Leaf]:
    """Every leaf, left to right, repeats included."""
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from leaves(argument)
    else:
        yield expression


def replace(expression: Expression, leaf: Callable[[Leaf], Expression]) -> Expression:
    """The expression with every leaf replaced."""
    if isinstance(expression, Call):
        return Call(expression.operation, tuple(replace(argument, leaf) for argument in expression.arguments))
    return leaf(expression)


def vector_type(kind: Kind, lanes: int) -> str:
    """`f32x16`."""
    return f"{kind}x{lanes}"


def scalar_text(scalar: Scalar) -> str:
    """A number as C reads it exactly."""
    if scalar.kind == "s32":
        return str(int(scalar.value))
    value = float(scalar.value)
    if value != value:
        return '__builtin_nanf("")'
    if value in (float("inf"), float("-inf")):
        return "(-__builtin_inff())" if value < 0 else "__builtin_inff()"
    return f"{value.hex()}f"


def statements(
    expression: Expression, lanes: int, leaf: Callable[[Leaf], str], prefix: str = "e"
) -> tuple[list[str], str]:
    """C statements that compute an expression on vectors, each distinct part once, and the name of the result.

    `leaf` gives C text for the accumulator, a row or a tensor beside, as a vector of `lanes`; scalars are splat here.
    """
    lines: list[str] = []
    names: dict[Expression, str] = {}

    def visit(part: Expression) -> str:
        if part in names:
            return names[part]
        if isinstance(part, Scalar):
            text = f"ew_splat_{vector_type(part.kind, lanes)}({scalar_text(part)})"
        elif isinstance(part, Call):
            arguments = ", ".join(visit(argument) for argument in part.arguments)
            text = f"ew_{part.operation}_{vector_type(OPERATIONS[part.operation].takes[-1], lanes)}({arguments})"
        else:
            text = leaf(part)
        name = f"{prefix}{len(names)}"
        lines.append(f"const {vector_type(part.kind, lanes)} {name} = {text};")
        names[part] = name
        return name

    return lines, visit(expression)
