"""Activation functions."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from ....attributes import number, text
from ....clamp import bounds_of
from ....folding import ConstantOf
from ...file.model import Quantization
from ...file.schema import ACTIVATIONS
from ..chain import Chain, Number
from ..elementwise import broadcastable, exact_number, fixed_unary, in_encoding, rounded, unary
from ..kernels import check_type
from ..orders import Order
from ..sites import FUSED, Form, Site
from ..walk import Walk
from .operator import INT8, INT8_AND_16, Operator

LOGISTIC: Final = {"": None, "int8": Quantization((1 / 256,), (-128,)), "int16": Quantization((1 / 32768,), (0,))}
TANH: Final = {"": None, "int8": Quantization((1 / 128,), (0,)), "int16": Quantization((1 / 32768,), (0,))}
"""The only encodings that integer kernels give (tflite/kernels/activations.cc, SigmoidPrepare and TanhPrepare)."""
GATE: Final = {"int8": Quantization((float(np.float32(1 / 255)),), (-128,)),
               "int16": Quantization((float(np.float32(1 / 32767)),), (0,))}  # fmt: skip
"""From 0 (in 16 bits -1) to 1: rounding to it is a clamp."""
SIDES: Final = "MAXIMUM", "MINIMUM"
INT16_CLAMPS: Final = frozenset({"RELU", "RELU6"})
SELU: Final = 1.67326319217681884765625, 1.05070102214813232421875
ERF: Final = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
ERF_P: Final = 0.3275911
"""Abramowitz and Stegun, 7.1.26: within 1.5e-7."""


def relu(walk: Walk, site: Site) -> None:
    """RELU, where it is not part of what is before it."""
    if walk.type_of(site.input(0)) == "FLOAT32":
        unary(walk, site, "RELU")
        return
    chain, x, order = _start(walk, site, "MAXIMUM")
    chain.finish(chain.apply("MAXIMUM", x, Number(0)), order)


def clip(walk: Walk, site: Site) -> None:
    """RELU6 or RELU_N1_TO_1 where the bounds are theirs, else MAXIMUM and MINIMUM; in integers QUANTIZE before them."""
    bounds = bounds_of(site.node)
    if bounds is None:
        _clip_computed(walk, site)
    elif bounds in FUSED and _has_clamp(walk, site, FUSED[bounds]):
        unary(walk, site, FUSED[bounds])
    elif site.integer:
        _integer_clip(walk, site, bounds)
    else:
        chain, x, order = _start(walk, site, "MAXIMUM")
        for kind, bound in zip(SIDES, bounds, strict=True):
            x = chain.apply(kind, x, Number(bound)) if np.isfinite(bound) else x
        chain.finish(x, order)


def _has_clamp(walk: Walk, site: Site, kind: str) -> bool:
    if site.integer:
        return site.kind == "int8" or kind in INT16_CLAMPS
    return walk.type_of(site.input(0)) == "FLOAT32"


def _integer_clip(walk: Walk, site: Site, bounds: tuple[float, float]) -> None:
    """Rounding to the result's encoding does what it can; MAXIMUM and MINIMUM do the rest."""
    order = walk.place(site.input(0), integer=True).order
    quantization, chain = site.encodings[0].quantization, Chain(walk, site)
    x = in_encoding(walk, site, site.input(0), order, quantization)
    ends = np.iinfo(site.kind).min, np.iinfo(site.kind).max
    for kind, bound, end in zip(SIDES, bounds, ends, strict=True):
        integers = rounded(np.asarray(bound), quantization, site.kind)
        if int(integers) != end:
            x = chain.apply(kind, x, walk.draft.constant("bound", integers, quantization))
    walk.finish(site, x, order)


def _clip_computed(walk: Walk, site: Site) -> None:
    placed = walk.place(site.input(0))
    x, chain = walk.data(site, site.input(0), placed.order), Chain(walk, site)
    for kind, index in zip(SIDES, (1, 2), strict=True):
        bound = site.optional(index)
        if bound is not None:
            check_type(walk, site.node, kind, x)
            x = chain.apply(kind, x, walk.read(bound, tuple(range(len(walk.shape(bound))))))
    walk.finish(site, x, placed.order)


def _constant_bounds(node: ir.Node, _: ConstantOf) -> bool:
    return bounds_of(node) is not None


def sigmoid(walk: Walk, site: Site) -> None:
    """LOGISTIC."""
    _fixed(walk, site, "LOGISTIC", LOGISTIC[site.kind])


def tanh(walk: Walk, site: Site) -> None:
    """TANH."""
    _fixed(walk, site, "TANH", TANH[site.kind])


def _fixed(walk: Walk, site: Site, kind: str, quantization: Quantization | None) -> None:
    if quantization is None:
        unary(walk, site, kind)
    else:
        fixed_unary(walk, site, kind, quantization)


def hard_sigmoid(walk: Walk, site: Site) -> None:
    """MUL, ADD and RELU; ADD and MUL where the slope is 1/6; in integers MUL and ADD, and QUANTIZE to another range."""
    alpha, beta = number(site.node, "alpha", 0.2), number(site.node, "beta", 0.5)
    chain, x, order = _start(walk, site, "MUL")
    if site.integer:
        walk.finish(site, _integer_gate(walk, site, x, alpha, beta), order)
    elif np.float32(alpha) == np.float32(1 / 6):
        gate = chain.apply("ADD", x, Number(beta / alpha), fusedActivationFunction=ACTIVATIONS["RELU6"])
        chain.finish(chain.apply("MUL", gate, Number(alpha)), order)
    else:
        line = chain.apply("MUL", x, Number(alpha))
        upper = chain.apply("ADD", line, Number(beta), fusedActivationFunction=ACTIVATIONS["RELU_N1_TO_1"])
        chain.finish(chain.apply("RELU", upper), order)


def _integer_gate(walk: Walk, site: Site, x: int, alpha: float, beta: float) -> int:
    """The slope changes the scale and no integer; the sum rounds to a range that ends where the gate does."""
    held = walk.draft.tensors[x]
    if held.quantization is None:
        raise ValueError(f"{held.name!r} has no scale")
    chain, shape = Chain(walk, site), held.shape
    scale = float(np.float32(held.quantization.scales[0] * alpha))
    sloped = walk.like(x, shape, f"{held.name}_sloped", Quantization((scale,), held.quantization.zero_points))
    walk.emit("MUL", (x, exact_number(walk, site, alpha, "alpha")), (sloped,))
    if beta == 0:
        gate = sloped
    else:
        gate = walk.like(x, shape, f"{held.name}_gate", GATE[site.kind])
        offset = exact_number(walk, site, beta, "beta")
        clamp = ACTIVATIONS["RELU"] if site.kind == "int16" else 0
        walk.emit("ADD", (sloped, offset), (gate,), fusedActivationFunction=clamp)
        return gate
    made = walk.like(x, shape, f"{held.name}_rounded", GATE[site.kind])
    walk.emit("QUANTIZE", (gate,), (made,))
    return made if site.kind == "int8" else chain.apply("RELU", made)


def _rises(node: ir.Node, _: ConstantOf) -> bool:
    return number(node, "alpha", 0.2) > 0


def hard_swish(walk: Walk, site: Site) -> None:
    """HARD_SWISH."""
    unary(walk, site, "HARD_SWISH")


def leaky_relu(walk: Walk, site: Site) -> None:
    """LEAKY_RELU."""
    unary(walk, site, "LEAKY_RELU", alpha=number(site.node, "alpha", 0.01))


def prelu(walk: Walk, site: Site) -> None:
    """PRELU."""
    value, slope = site.input(0), site.input(1)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    alpha = broadcastable(walk, site, slope, placed.order)
    y = walk.result(site, walk.shape_of(x), placed.order)
    walk.emit("PRELU", (x, alpha), (y,))


def elu(walk: Walk, site: Site) -> None:
    """ELU, then LEAKY_RELU where alpha is not 1."""
    alpha = number(site.node, "alpha", 1.0)
    if alpha == 1.0:
        unary(walk, site, "ELU")
        return
    chain, x, order = _start(walk, site, "ELU")
    chain.finish(chain.apply("LEAKY_RELU", chain.apply("ELU", x), alpha=alpha), order)


def _is_plain_elu(node: ir.Node, _: ConstantOf) -> bool:
    return number(node, "alpha", 1.0) == 1.0


def celu(walk: Walk, site: Site) -> None:
    """ELU; MUL before and behind it where alpha is not 1."""
    alpha = number(site.node, "alpha", 1.0)
    if alpha == 1.0:
        unary(walk, site, "ELU")
        return
    chain, x, order = _start(walk, site, "ELU")
    inner = chain.apply("ELU", chain.apply("MUL", x, Number(1 / alpha)))
    chain.finish(chain.apply("MUL", inner, Number(alpha)), order)


def selu(walk: Walk, site: Site) -> None:
    """ELU, LEAKY_RELU and MUL."""
    alpha, gamma = number(site.node, "alpha", SELU[0]), number(site.node, "gamma", SELU[1])
    chain, x, order = _start(walk, site, "ELU")
    bent = chain.apply("LEAKY_RELU", chain.apply("ELU", x), alpha=alpha)
    chain.finish(chain.apply("MUL", bent, Number(gamma)), order)


def thresholded_relu(walk: Walk, site: Site) -> None:
    """GREATER and SELECT_V2."""
    chain, x, order = _start(walk, site, "RELU")
    above = chain.compare("GREATER", x, Number(number(site.node, "alpha", 1.0)))
    chain.finish(chain.apply("SELECT_V2", above, x, chain.number(0, x)), order)


def gelu(walk: Walk, site: Site) -> None:
    """GELU."""
    unary(walk, site, "GELU", approximate=text(site.node, "approximate", "none") == "tanh")


def softplus(walk: Walk, site: Site) -> None:
    """ABS, NEG, EXP, ADD, LOG, RELU and ADD, which do not overflow."""
    chain, x, order = _start(walk, site, "EXP")
    chain.finish(_softplus(chain, x), order)


def mish(walk: Walk, site: Site) -> None:
    """What Softplus takes, TANH and MUL."""
    chain, x, order = _start(walk, site, "EXP")
    chain.finish(chain.apply("MUL", x, chain.apply("TANH", _softplus(chain, x))), order)


def _softplus(chain: Chain, x: int) -> int:
    small = chain.apply("EXP", chain.apply("NEG", chain.apply("ABS", x)))
    rest = chain.apply("LOG", chain.apply("ADD", small, Number(1)))
    return chain.apply("ADD", chain.apply("RELU", x), rest)


def softsign(walk: Walk, site: Site) -> None:
    """ABS, ADD and DIV."""
    chain, x, order = _start(walk, site, "DIV")
    chain.finish(chain.apply("DIV", x, chain.apply("ADD", chain.apply("ABS", x), Number(1))), order)


def erf(walk: Walk, site: Site) -> None:
    """A polynomial of 1 / (1 + p |x|) times EXP of -x², within 1e-6."""
    chain, x, order = _start(walk, site, "EXP")
    size = chain.apply("ABS", x)
    t = chain.apply("ADD", chain.apply("MUL", size, Number(ERF_P)), Number(1))
    t = chain.apply("DIV", chain.number(1, x), t)
    sum_ = chain.apply("MUL", t, Number(ERF[0]))
    for factor in ERF[1:]:
        sum_ = chain.apply("MUL", chain.apply("ADD", sum_, Number(factor)), t)
    tail = chain.apply("MUL", sum_, chain.apply("EXP", chain.apply("NEG", chain.apply("MUL", x, x))))
    chain.finish(chain.apply("MUL", chain.apply("SIGN", x), chain.apply("SUB", chain.number(1, x), tail)), order)


def _start(walk: Walk, site: Site, kind: str) -> tuple[Chain, int, Order]:
    """The first input as it lies, of a type that an operator computes."""
    value = site.input(0)
    placed = walk.place(value, integer=site.integer)
    x = walk.data(site, value, placed.order)
    check_type(walk, site.node, kind, x)
    return Chain(walk, site), x, placed.order


TABLE = {
    "Relu": Operator(relu, Form(integers=INT8_AND_16)),
    "Clip": Operator(clip, Form(integers=INT8_AND_16, suits=_constant_bounds)),
    "Sigmoid": Operator(sigmoid, Form(integers=INT8_AND_16)),
    "Tanh": Operator(tanh, Form(integers=INT8_AND_16)),
    "HardSigmoid": Operator(hard_sigmoid, Form(integers=INT8_AND_16, suits=_rises)),
    "HardSwish": Operator(hard_swish, Form(integers=INT8)),
    "LeakyRelu": Operator(leaky_relu, Form(integers=INT8_AND_16)),
    "PRelu": Operator(prelu, Form(integers=INT8, all_stored=True)),
    "Elu": Operator(elu, Form(integers=INT8, suits=_is_plain_elu)),
    "Celu": Operator(celu, Form(integers=INT8, suits=_is_plain_elu)),
    "Selu": Operator(selu),
    "ThresholdedRelu": Operator(thresholded_relu),
    "Gelu": Operator(gelu, Form(integers=INT8)),
    "Softplus": Operator(softplus),
    "Mish": Operator(mish),
    "Softsign": Operator(softsign),
    "Erf": Operator(erf),
}
