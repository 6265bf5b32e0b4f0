"""TOML from a hand that may err or mean harm: what it may cost is bounded before it is parsed.

The parser of the standard library takes memory with the square of a key's parts, so that a key of 64 kB would take
gigabytes, and raises what is no `TOMLDecodeError` for numbers of thousands of digits and for deep nesting.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable
from typing import Any

MAX_KEY_PARTS = 16
"""The deepest key that any of our files has is `models.NAME.breaker.key`."""

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*+"|\'[^\'\n]*+\'')
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}")
_BLANK = "_"
"""Stands for a string, which may be a part of a key."""


class BadToml(ValueError):
    """The text is no TOML that is read here; the message says why."""


def read_toml(text: str) -> dict[str, Any]:
    """Return what a text says; whoever calls has looked at its length.

    Raises:
        BadToml: not TOML, nested too deeply, or with keys or numbers that no configuration has.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadToml("it has halves of characters (surrogates)")
    if '"""' in text or "'''" in text:  # in these, what is a key could not be told without a parser
        raise BadToml("strings of several lines have no place here")
    found = _LONG_KEY.search(_STRING.sub(_BLANK, text))
    if found is not None:
        raise BadToml(f"a key has more than {MAX_KEY_PARTS} parts; put names with dots in quotes")
    try:
        content = tomllib.loads(text)
        _check_finite(content)
    except RecursionError as error:
        raise BadToml("it is nested too deeply; tables are two or three deep") from error
    except ValueError as error:  # also a number of more digits than Python converts
        raise BadToml(str(error)) from error
    return content


def _check_finite(value: object) -> None:
    """TOML has `nan`, which no comparison refuses, and `inf`, which no number of nanoseconds is."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadToml(f"expected finite numbers, came {value}")
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    for each in inner:
        _check_finite(each)
