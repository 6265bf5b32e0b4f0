"""The words and signs of a query, and how a mistake in one is shown."""

from __future__ import annotations

import re

import msgspec

from .faults import PolicyError

EXCERPT_CHARS = 72
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


class Token(msgspec.Struct, frozen=True):
    """One word or sign, and where it stands."""

    kind: str
    """`text`, `number`, `name`, `sign`, `end`; words of the language and signs are their own kind."""
    value: str
    place: int


def split(text: str) -> list[Token]:
    """Return the tokens of a query; the last one is its end.

    Raises:
        PolicyError: something is no word, sign or value.
    """
    tokens: list[Token] = []
    place = 0
    while not tokens or tokens[-1].kind != "end":
        found = _TOKEN.match(text, place)
        if found is None:
            start = len(text) - len(text[place:].lstrip())
            raise wrong(text, Token("unknown", text[start], start), _why_unreadable(text[start]))
        group = str(found.lastgroup)
        value, place = found.group(group), found.end()
        is_own_kind = group == "sign" or value in WORDS
        tokens.append(Token(value if is_own_kind else group, value, found.start(group)))
    return tokens


def wrong(text: str, token: Token, expected: str) -> PolicyError:
    """Return the error that says what was expected in place of a token, and shows the place."""
    got = "the end" if token.kind == "end" else repr(token.value)
    meant = IN_OTHER_LANGUAGES.get(token.value) or (token.value.lower() if token.value.lower() in WORDS else None)
    hint = f" (here it is written `{meant}`)" if meant and meant != token.value else ""
    return shown(text, token.place, f"{expected}, got {got}{hint}")


def shown(text: str, place: int, what: str) -> PolicyError:
    """Return an error with the line that has the mistake, cut to a width, and a caret below it."""
    start = max(0, place - EXCERPT_CHARS // 2)
    line = re.sub(r"\s", " ", text[start : start + EXCERPT_CHARS])
    return PolicyError(f"{what}, at character {place + 1}\n    {line}\n    {' ' * (place - start)}^")


def _why_unreadable(character: str) -> str:
    if character in "\"'":
        return "a text that does not end, or has a `\\` before something else than a quote or `\\`"
    return "expected a field, a value or a sign"
