"""What to do about a policy that does not have the shape of one: the key that was meant, the values that there are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_PATH = re.compile(r"at `\$\.?([^`]*)`")
_STEP = re.compile(r"\[[^\]]*\]|[^.\[]+")


def hint(message: str, policy: type[msgspec.Struct]) -> str:
    """Return msgspec's message about data that do not fit `policy`, with a way out where one is known."""
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown is not None:
        keys = sorted({field.encode_name for kind in _structs(policy) for field in kind.fields})
        return f"{message}; {near_or_all(unknown.group(1), keys, 'known keys')}"
    if "got `datetime`" in message or "got `date`" in message:
        return f'{message}; put the time in quotes: "2026-03-29T02:30:00+01:00"'
    path = _PATH.search(message)
    if "Invalid enum value" in message and path is not None:
        return f"{message}; expected one of {', '.join(_choices(policy, path.group(1)))}"
    return message


def near_or_all(word: str, known: Iterable[str], title: str) -> str:
    """Return which word was probably meant, or all that there are."""
    near = difflib.get_close_matches(word, known := list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"{title}: {', '.join(known)}"


def _structs(policy: type[msgspec.Struct]) -> list[msgspec.inspect.StructType]:
    found: dict[type, msgspec.inspect.StructType] = {}
    waiting: list[Any] = [msgspec.inspect.type_info(policy)]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, msgspec.inspect.StructType) and kind.cls not in found:
            found[kind.cls] = kind
            waiting += [field.type for field in kind.fields]
        else:
            waiting += _inner(kind)
    return list(found.values())


def _choices(policy: type[msgspec.Struct], path: str) -> list[str]:
    """Return the words that may stand at a path such as `controlGate.metrics[0].metric`."""
    kinds: list[Any] = [msgspec.inspect.type_info(policy)]
    for step in _STEP.findall(path):
        if not step.startswith("["):
            kinds = [
                field.type
                for kind in _unfolded(kinds)
                if isinstance(kind, msgspec.inspect.StructType)
                for field in kind.fields
                if field.encode_name == step
            ]
    return [
        str(value)
        for kind in _unfolded(kinds)
        if isinstance(kind, msgspec.inspect.LiteralType)
        for value in kind.values
    ]


def _unfolded(kinds: Iterable[Any]) -> Iterator[Any]:
    """Yield these types and those inside of unions and arrays."""
    for kind in kinds:
        yield kind
        yield from _unfolded(_inner(kind))


def _inner(kind: Any) -> list[Any]:
    if isinstance(kind, msgspec.inspect.UnionType):
        return list(kind.types)
    return [kind.item_type] if isinstance(kind, msgspec.inspect.VarTupleType) else []
