"""Plain values, as the REST side writes them as JSON, into messages of the same field names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fill(message: Any, values: Mapping[str, Any]) -> Any:
    """Set the fields of a message that are named in `values`; names that it does not have are left out. Returns it."""
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        if value is not None and name in fields:
            _set(message, fields[name], value)
    return message


def _set(message: Any, field: Any, value: Any) -> None:
    inner = field.message_type
    if inner is None:
        if isinstance(value, list | tuple):
            getattr(message, field.name).extend(value)
        else:
            setattr(message, field.name, _number(field, value))
    elif inner.GetOptions().map_entry:
        _set_map(getattr(message, field.name), inner.fields_by_name["value"].message_type, value)
    elif isinstance(value, list | tuple):
        for each in value:
            fill(getattr(message, field.name).add(), each)
    else:
        part = getattr(message, field.name)
        part.SetInParent()  # also where nothing in it is set
        fill(part, value)


def _set_map(entries: Any, inner: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if inner is None:
            entries[key] = value
        else:
            fill(entries[key], value)


def _number(field: Any, value: Any) -> Any:
    """An enum comes by the name of its value."""
    if field.enum_type is not None and isinstance(value, str):
        return field.enum_type.values_by_name[value].number
    return value
