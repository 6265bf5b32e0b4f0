"""Reads attributes and inputs of ONNX nodes, typed."""

from __future__ import annotations

import onnx_ir as ir


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    found = node.attributes.get(name)
    return default if found is None else int(found.as_int())


def number(node: ir.Node, name: str, default: float) -> float:
    """A float attribute."""
    found = node.attributes.get(name)
    return default if found is None else float(found.as_float())


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute."""
    found = node.attributes.get(name)
    return default if found is None else str(found.as_string())


def integers(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """A list of integers, None where it is not given."""
    found = node.attributes.get(name)
    return None if found is None else tuple(int(each) for each in found.as_ints())


def numbers(node: ir.Node, name: str) -> tuple[float, ...] | None:
    """A list of floats, None where it is not given."""
    found = node.attributes.get(name)
    return None if found is None else tuple(float(each) for each in found.as_floats())


def texts(node: ir.Node, name: str) -> tuple[str, ...] | None:
    """A list of strings, None where it is not given."""
    found = node.attributes.get(name)
    return None if found is None else tuple(str(each) for each in found.as_strings())


def given(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node, None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def needed(node: ir.Node, index: int) -> ir.Value:
    """An input that the operator cannot do without."""
    found = given(node, index)
    if found is None:
        raise ValueError(f"{node.op_type} {node.name!r} has no input {index}")
    return found
