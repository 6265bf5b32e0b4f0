"""Arithmetic of two values."""

from __future__ import annotations

from ..elementwise import binary
from ..sites import Form, Site
from ..walk import Walk, fused
from .operator import INT8_AND_16, Operator


def add(walk: Walk, site: Site) -> None:
    """ADD."""
    binary(walk, site, "ADD", fusedActivationFunction=fused(site))


def sub(walk: Walk, site: Site) -> None:
    """SUB."""
    binary(walk, site, "SUB", fusedActivationFunction=fused(site))


def mul(walk: Walk, site: Site) -> None:
    """MUL."""
    binary(walk, site, "MUL", fusedActivationFunction=fused(site))


def div(walk: Walk, site: Site) -> None:
    """DIV."""
    binary(walk, site, "DIV", fusedActivationFunction=fused(site))


_ARITHMETIC = Form(fuses=True, integers=INT8_AND_16, all_stored=True)

TABLE = {
    "Add": Operator(add, _ARITHMETIC),
    "Sub": Operator(sub, _ARITHMETIC),
    "Mul": Operator(mul, _ARITHMETIC),
    "Div": Operator(div, Form(fuses=True)),
}
