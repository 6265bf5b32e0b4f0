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

from .policy_faults import PolicyError
from .policy_hints import near_or_all

MAX_QUERY_CHARS = 4000
MAX_DEPTH = 32
MAX_COMPARISONS = 256
MAX_VALUES = 1000
EXCERPT_CHARS = 72
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
WORDS = frozenset({"and", "or", "not", "in", "like"})
IN_OTHER_LANGUAGES = {"=": "==", "&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "<>": "!=", "=~": "like"}

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\["\\])*"|'(?:[^'\\]|\\['\\])*')
      | (?P<number>[0-9]{1,18}(?![0-9A-Za-z_.]))
      | (?P<name>[A-Za-z_][A-Za-z0-9_.-]*)
      | (?P<sign>==|!=|<=|>=|<>|=~|&&|\|\||[<>=!&|(),])
      | (?P<end>$)
    )""",
    re.VERBOSE,
)


class _Token(msgspec.Struct, frozen=True):
    kind: str
    """`text`, `number`, `name`, `sign`, `end`; words of the language and signs are their own kind."""
    value: str
    place: int


class _Reader:
    """Reads one query by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._comparisons = 0

    def query(self, depth: int) -> Test:
        tests = [self._both(depth)]
        while self._took("or"):
            tests.append(self._both(depth))
        return _any_of(tests)

    def expect(self, kind: str) -> _Token:
        token = self._tokens[self._next]
        if token.kind != kind:
            raise self._wrong(token, "expected " + ("`and`, `or` or the end" if kind == "end" else f"{kind!r}"))
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
            raise self._wrong(token, f"more than {MAX_DEPTH} levels of `not` and brackets")
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
            raise self._wrong(name, f"expected a field ({', '.join(FIELDS)})")
        self._next += 1
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._wrong(name, f"more than {MAX_COMPARISONS} comparisons; use `in (…)`")
        if name.value in NUMBER_FIELDS:
            return self._of_number(NUMBER_FIELDS[name.value])
        return self._of_text(self._text_field(name))

    def _text_field(self, name: _Token) -> Callable[[Any], str]:
        if name.value in TEXT_FIELDS:
            return TEXT_FIELDS[name.value]
        key = name.value.removeprefix("labels.")
        if key != name.value and LABEL_KEY.fullmatch(key):
            return lambda device: device.labels.get(key, "")
        raise self._wrong(
            name, f"no field {name.value!r}; {near_or_all(name.value, FIELDS, 'fields')}", is_complete=True
        )

    def _of_text(self, read: Callable[[Any], str]) -> Test:
        sign = self._tokens[self._next]
        self._next += 1
        if sign.kind in ORDERINGS:
            raise self._wrong(sign, "texts have no order; expected `==`, `!=`, `in` or `like`")
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
        raise self._wrong(sign, "expected `==`, `!=`, `in`, `not in`, `like` or `not like`")

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
        raise self._wrong(sign, "expected `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`")

    def _values(self, kind: str) -> list[str]:
        self.expect("(")
        values = [self._value(kind)]
        while self._took(","):
            values.append(self._value(kind))
            if len(values) > MAX_VALUES:
                raise self._wrong(self._tokens[self._next], f"more than {MAX_VALUES} values; use a label")
        self.expect(")")
        return values

    def _value(self, kind: str) -> str:
        token = self._tokens[self._next]
        if token.kind != kind:
            raise self._wrong(token, 'expected a text in quotes ("x")' if kind == "text" else "expected a number")
        self._next += 1
        return re.sub(r"\\(.)", r"\1", token.value[1:-1]) if kind == "text" else token.value

    def _took(self, kind: str) -> bool:
        if self._tokens[self._next].kind != kind:
            return False
        self._next += 1
        return True

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        place = 0
        while not tokens or tokens[-1].kind != "end":
            found = _TOKEN.match(self._text, place)
            if found is None:
                start = len(self._text) - len(self._text[place:].lstrip())
                raise self._wrong(_Token("unknown", self._text[start], start), _why_unreadable(self._text[start]))
            group = str(found.lastgroup)
            value, place = found.group(group), found.end()
            is_own_kind = group == "sign" or value in WORDS
            tokens.append(_Token(value if is_own_kind else group, value, found.start(group)))
        return tokens

    def _wrong(self, token: _Token, what: str, *, is_complete: bool = False) -> PolicyError:
        got = "the end" if token.kind == "end" else repr(token.value)
        meant = IN_OTHER_LANGUAGES.get(token.value) or (token.value.lower() if token.value.lower() in WORDS else None)
        hint = f" (here it is written `{meant}`)" if meant and meant != token.value else ""
        told = what if is_complete else f"{what}, got {got}{hint}"
        return PolicyError(f"{told}, at character {token.place + 1}\n{_excerpt(self._text, token.place)}")


def _why_unreadable(character: str) -> str:
    if character in "\"'":
        return "a text that does not end, or has a `\\` before something else than a quote or `\\`"
    return "expected a field, a value or a sign"


def _excerpt(text: str, place: int) -> str:
    """Return the line with the mistake, cut to a width, and a caret below it."""
    start = max(0, place - EXCERPT_CHARS // 2)
    shown = re.sub(r"\s", " ", text[start : start + EXCERPT_CHARS])
    return f"    {shown}\n    {' ' * (place - start)}^"


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
