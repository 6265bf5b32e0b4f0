"""How a hook fails."""

from __future__ import annotations


class HookFailed(Exception):
    """The call did not get through; the message says why. It is tried again, a bounded number of times."""
