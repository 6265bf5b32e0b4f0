"""How long to wait before trying again. Pure."""

from __future__ import annotations


def jittered_s(attempt: int, chance: float, *, first_s: float = 1.0, most_s: float = 120.0) -> float:
    """Return a pause: it doubles with each attempt, and `chance` (0 to 1) spreads a fleet over it."""
    ceiling = min(most_s, first_s * 2.0 ** min(attempt, 30))
    return ceiling * (0.1 + 0.9 * chance)
