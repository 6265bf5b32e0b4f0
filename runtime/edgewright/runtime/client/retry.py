"""When a call is made again. Pure: what decides comes as arguments."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ClientError, ServerRefused, Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Bounds of trying again.

    Only what cannot have been done twice is tried again: the server did not get the request (the connection was
    refused), it said so itself (503 with Retry-After), or doing it twice is as good as once and the connection was one
    that lay idle, which a server may close at any time.
    """

    attempts: int = 3
    first_pause_s: float = 0.05
    longest_pause_s: float = 2.0

    def pause_s(
        self, attempt: int, error: ClientError, *, repeatable: bool, reused: bool, left_s: float | None
    ) -> float | None:
        """Return how long to wait before the next attempt; None where there is none.

        Args:
            attempt: how many have been made, from 1.
            error: how the last one ended.
            repeatable: doing it twice is as good as doing it once.
            reused: the last one was made on a connection that had been used before.
            left_s: time that the caller is still willing to wait.

        >>> Retry().pause_s(1, Unreachable("refused", sent=False), repeatable=False, reused=False, left_s=None)
        0.05
        >>> Retry().pause_s(1, Unreachable("reset", sent=True), repeatable=False, reused=False, left_s=None)
        """
        if attempt >= self.attempts:
            return None
        pause = self._wanted_s(attempt, error, repeatable=repeatable, reused=reused)
        if pause is None or pause > self.longest_pause_s or (left_s is not None and pause >= left_s):
            return None
        return pause

    def _wanted_s(self, attempt: int, error: ClientError, *, repeatable: bool, reused: bool) -> float | None:
        if isinstance(error, ServerRefused):
            return error.retry_after_s if error.status == 503 else None
        if isinstance(error, Unreachable):
            if not error.sent:
                return float(min(self.first_pause_s * 2 ** (attempt - 1), self.longest_pause_s))
            return 0.0 if reused and repeatable else None
        return None
