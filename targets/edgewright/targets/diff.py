"""What differs between two boards, key by key."""

from __future__ import annotations

from typing import Any

import msgspec

from .board import Board

Plain = str | int | float | bool | None
ABSENT = None
LABEL_KEYS = ("name", "precision", "processor", "accelerator")


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One key that is not the same; None where a board does not have it."""

    key: str
    left: Plain
    right: Plain


def diff_boards(left: Board, right: Board) -> tuple[Difference, ...]:
    """Every key that differs, in the order of the format; empty for equal boards."""
    left_facts, right_facts = flatten(left), flatten(right)
    keys = [*left_facts, *(key for key in right_facts if key not in left_facts)]
    return tuple(
        Difference(key=key, left=left_facts.get(key, ABSENT), right=right_facts.get(key, ABSENT))
        for key in keys
        if left_facts.get(key, ABSENT) != right_facts.get(key, ABSENT)
    )


def flatten(board: Board) -> dict[str, Plain]:
    """Dotted keys to plain values. Lists of words become one text, tables in lists get a name."""
    flat: dict[str, Plain] = {}
    _flatten_into(flat, "", msgspec.to_builtins(board))
    return flat


def _flatten_into(flat: dict[str, Plain], prefix: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten_into(flat, f"{prefix}.{key}" if prefix else key, inner)
    elif isinstance(value, list | tuple):
        if value and all(isinstance(item, str) for item in value):
            flat[prefix] = " ".join(sorted(value))
        else:
            for item in value:
                rest = {key: inner for key, inner in item.items() if key not in LABEL_KEYS}
                _flatten_into(flat, f"{prefix}.{_label(item)}", rest)
    else:
        flat[prefix] = value


def _label(item: dict[str, Any]) -> str:
    """`gpu`, `tensorrt@gpu`, or `int8@cpu`: so that a table that moved within its list is not a difference."""
    name = item.get("name", item.get("precision", ""))
    processor = item.get("processor", item.get("accelerator"))
    return f"{name}@{processor}" if processor else str(name)
