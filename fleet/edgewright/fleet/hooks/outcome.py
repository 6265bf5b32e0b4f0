"""How a hook fails, or waits."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text of a stranger without what would steer a terminal: it is logged, and shown to people."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


class HookFailed(Exception):
    """The call did not get through; the message says why. It is tried again, a bounded number of times."""


class HookPostponed(Exception):
    """It is not the time for the call, and the message says why: asked again in a minute, and no attempt was made."""
