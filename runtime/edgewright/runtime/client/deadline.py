"""How long a call may still take."""

from __future__ import annotations

import time

from .errors import AnswerTimeout


class Deadline:
    """The moment at which a call has taken too long."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self) -> float | None:
        """Return the time that is left; None without end.

        Raises:
            AnswerTimeout: there is none.
        """
        left = self.remaining_s
        if left == 0:
            raise AnswerTimeout("the server did not answer in time")
        return left

    @property
    def remaining_s(self) -> float | None:
        """The time that is left, 0 where there is none; None without end."""
        return None if self._end_s is None else max(0.0, self._end_s - time.monotonic())
