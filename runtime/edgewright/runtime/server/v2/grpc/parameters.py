"""Parameters between `map<string, InferParameter>` and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...pipeline import Note


def from_map(parameters: Any) -> dict[str, Note]:
    """Return the parameters that have a value."""
    plain: dict[str, Note] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            plain[name] = getattr(parameter, kind)
    return plain


def set_map(parameters: Any, values: Mapping[str, Note]) -> None:
    """Put plain values into a message's map."""
    for name, value in values.items():
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int):
            parameters[name].int64_param = value
        elif isinstance(value, float):
            parameters[name].double_param = value
        else:
            parameters[name].string_param = value
