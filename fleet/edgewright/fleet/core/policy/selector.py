"""Queries over devices: which of them a rollout or a wave is for.

    board == "jetson" and site in ("lyon", "graz") and labels.line == "3" and version != "2" and not id like "dev-*"

Grammar, with `and` before `or` and `not` before both:

    query      = both { "or" both }
    both       = part { "and" part }
    part       = "not" part | "(" query ")" | field comparison
    comparison = ("==" | "!=") value | ("<" | "<=" | ">" | ">=") number
               | ["not"] "in" "(" value { "," value } ")" | ["not"] "like" text

Texts are compared exactly; `like` takes `*` (any characters) and `?` (one), over the whole text. What a device did not
say is the empty text: `version == ""` runs nothing of the model, `labels.line == ""` has no such label. Length, depth
and number of comparisons are bounded. A query is compiled once, to closures, since it is asked of every device.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from .faults import PolicyError
from .hints import near_or_all
from .query_tokens import Token, shown, split, wrong

MAX_QUERY_CHARS = 4000
MAX_DEPTH = 32
MAX_COMPARISONS = 256
MAX_VALUES = 1000
LABEL_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""What a label may be called."""


class Described(Protocol):
    """What a query may ask of a device (`rows.Device` is one)."""

    @property
    def id(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def site(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def bundle(self) -> str | None: ...
    @property
    def software(self) -> str: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def security_epoch(self) -> int: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


Test = Callable[[Described], bool]


class Query(msgspec.Struct, frozen=True):
    """A query that was read, and its compiled form."""

    text: str
    matches: Test
    """Tells whether a device fulfils it."""


@lru_cache(maxsize=512)
def parse(text: str) -> Query:
    """Return the query in a text; an empty one is fulfilled by every device.

    Raises:
        PolicyError: it is no query; the message shows the place.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise PolicyError(f"query of {len(text)} characters; the limit is {MAX_QUERY_CHARS}: use labels or sites")
    if not text.strip():
        return Query(text, lambda _device: True)
    reader = _Reader(text)
    test = reader.query(depth=0)
    reader.expect("end")
    return Query(text, test)


def _version(device: Described) -> str:
    return device.version or ""


def _bundle(device: Described) -> str:
    return device.bundle or ""


TEXT_FIELDS: dict[str, Callable[[Any], str]] = {
    "id": operator.attrgetter("id"),
    "board": operator.attrgetter("target"),
    "site": operator.attrgetter("site"),
    "version": _version,
    "bundle": _bundle,
    "software": operator.attrgetter("software"),
    "zone": operator.attrgetter("time_zone"),
}
NUMBER_FIELDS: dict[str, Callable[[Any], int]] = {"epoch": operator.attrgetter("security_epoch")}
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, "labels.NAME")
ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Reader:
    """Reads one query by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = split(text)
        self._next = 0
        self._comparisons = 0

    def query(self, depth: int) -> Test:
        tests = [self._both(depth)]
        while self._took("or"):
            tests.append(self._both(depth))
        return _any_of(tests)

    def expect(self, kind: str) -> Token:
        token = self._tokens[self._next]
        if token.kind != kind:
            raise wrong(self._text, token, "expected " + ("`and`, `or` or the end" if kind == "end" else f"{kind!r}"))
        self._next += 1
        return token

    def _both(self, depth: int) -> Test:
        tests = [self._part(depth)]
        while self._took("and"):
            tests.append(self._part(depth))
        return _all_of(tests)

    def _part(self, depth: int) -> Test:
        token = self._tokens[self._next]
        if depth > MAX_DEPTH:
            raise wrong(self._text, token, f"more than {MAX_DEPTH} levels of `not` and brackets")
        if self._took("not"):
            return _not(self._part(depth + 1))
        if self._took("("):
            inner = self.query(depth + 1)
            self.expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        name = self._tokens[self._next]
        if name.kind != "name":
            raise wrong(self._text, name, f"expected a field ({', '.join(FIELDS)})")
        self._next += 1
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise wrong(self._text, name, f"more than {MAX_COMPARISONS} comparisons; use `in (…)`")
        if name.value in NUMBER_FIELDS:
            return self._of_number(NUMBER_FIELDS[name.value])
        return self._of_text(self._text_field(name))

    def _text_field(self, name: Token) -> Callable[[Any], str]:
        if name.value in TEXT_FIELDS:
            return TEXT_FIELDS[name.value]
        key = name.value.removeprefix("labels.")
        if key != name.value and LABEL_KEY.fullmatch(key):
            return lambda device: device.labels.get(key, "")
        what = f"no field {name.value!r}; {near_or_all(name.value, FIELDS, 'fields')}"
        raise shown(self._text, name.place, what)

    def _of_text(self, read: Callable[[Any], str]) -> Test:
        sign = self._tokens[self._next]
        self._next += 1
        if sign.kind in ORDERINGS:
            raise wrong(self._text, sign, "texts have no order; expected `==`, `!=`, `in` or `like`")
        if sign.kind in {"==", "!="}:
            return _equals(read, self._value("text"), is_wanted=sign.kind == "==")
        is_wanted = sign.kind != "not"
        if not is_wanted:
            sign = self._tokens[self._next]
            self._next += 1
        if sign.kind == "in":
            return _is_in(read, frozenset(self._values("text")), is_wanted=is_wanted)
        if sign.kind == "like":
            return _is_like(read, self._value("text"), is_wanted=is_wanted)
        raise wrong(self._text, sign, "expected `==`, `!=`, `in`, `not in`, `like` or `not like`")

    def _of_number(self, read: Callable[[Any], int]) -> Test:
        sign = self._tokens[self._next]
        self._next += 1
        if sign.kind in {"==", "!="}:
            return _equals(read, int(self._value("number")), is_wanted=sign.kind == "==")
        if sign.kind in ORDERINGS:
            return _is_ordered(read, ORDERINGS[sign.kind], int(self._value("number")))
        is_wanted = sign.kind != "not"
        if not is_wanted:
            sign = self.expect("in")
        if sign.kind == "in":
            return _is_in(read, frozenset(int(value) for value in self._values("number")), is_wanted=is_wanted)
        raise wrong(self._text, sign, "expected `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`")

    def _values(self, kind: str) -> list[str]:
        self.expect("(")
        values = [self._value(kind)]
        while self._took(","):
            values.append(self._value(kind))
            if len(values) > MAX_VALUES:
                raise wrong(self._text, self._tokens[self._next], f"more than {MAX_VALUES} values; use a label")
        self.expect(")")
        return values

    def _value(self, kind: str) -> str:
        token = self._tokens[self._next]
        if token.kind != kind:
            raise wrong(self._text, token, 'expected a text in quotes ("x")' if kind == "text" else "expected a number")
        self._next += 1
        return re.sub(r"\\(.)", r"\1", token.value[1:-1]) if kind == "text" else token.value

    def _took(self, kind: str) -> bool:
        if self._tokens[self._next].kind != kind:
            return False
        self._next += 1
        return True


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    half = len(tests) // 2
    first, second = _all_of(tests[:half]), _all_of(tests[half:])
    return lambda device: first(device) and second(device)


def _any_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    half = len(tests) // 2
    first, second = _any_of(tests[:half]), _any_of(tests[half:])
    return lambda device: first(device) or second(device)


def _not(test: Test) -> Test:
    return lambda device: not test(device)


def _equals(read: Callable[[Any], object], value: object, *, is_wanted: bool) -> Test:
    return (lambda device: read(device) == value) if is_wanted else (lambda device: read(device) != value)


def _is_in(read: Callable[[Any], object], values: frozenset[Any], *, is_wanted: bool) -> Test:
    return (lambda device: read(device) in values) if is_wanted else (lambda device: read(device) not in values)


def _is_like(read: Callable[[Any], str], pattern: str, *, is_wanted: bool) -> Test:
    # fnmatch makes patterns that do not backtrack; brackets mean themselves here
    found = re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match
    return (
        (lambda device: found(read(device)) is not None) if is_wanted else (lambda device: found(read(device)) is None)
    )


def _is_ordered(read: Callable[[Any], int], order: Callable[[Any, Any], bool], value: int) -> Test:
    return lambda device: order(read(device), value)
