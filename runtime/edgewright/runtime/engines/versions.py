"""Version ranges of engines: the part of PEP 440 that engine requirements use (releases; no epochs, no wildcards)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from .protocol import ModelRefused

_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*(\d+(?:\.\d+)*)")
_Release = tuple[int, ...]
_COMPARE: dict[str, Callable[[_Release, _Release], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}


def satisfies(version: str, wanted: str) -> bool:
    """Return whether a version lies in a range such as `>=1.31,<2`. An empty range holds every version.

    Raises:
        ModelRefused: the range cannot be read.
    """
    release = _release(version)
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ModelRefused(f"engine version {wanted!r}: cannot read {clause!r}; expected for example '>=1.31,<2'")
        sign, bound = match[1], _release(match[2])
        if sign == "~=":
            fits = release >= bound and release[: match[2].count(".")] == bound[: match[2].count(".")]
        else:
            fits = _COMPARE[sign](release, bound)
        if not fits:
            return False
    return True


def _release(version: str) -> _Release:
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else [0]
    return tuple(numbers + [0] * (4 - len(numbers)))
