"""JSON from strangers: bounded depth, no duplicate keys, no NaN. Python's reader allows all three."""

from __future__ import annotations

import json
import re
from typing import Any

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class StrictJsonError(ValueError):
    """Not JSON, or JSON with something in it that readers understand differently."""


class DuplicateKeyError(StrictJsonError):
    """An object has the same key twice."""


class TooDeepError(StrictJsonError):
    """Nested deeper than allowed."""


def parse_json(data: bytes, max_depth: int) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        StrictJsonError: or one of its kinds; the message fits behind a file name.
    """
    _check_depth(data, max_depth)
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except StrictJsonError:
        raise
    except ValueError as error:
        raise StrictJsonError(f"not valid JSON: {error}") from error


def _check_depth(data: bytes, max_depth: int) -> None:
    """Refuse deep nesting before a recursive parser sees it."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise TooDeepError(f"nested deeper than {max_depth} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DuplicateKeyError(f"the key {twice[:80]!r} appears twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise StrictJsonError(f"{name} is not a JSON number")
