"""Whether the client is there and gets on with it. Pure: time is passed in, about once a second."""

from __future__ import annotations

from .faults import Code, ConnectionFault
from .limits import Http2Limits


class Liveness:
    """What has been heard of one client, and when."""

    def __init__(self, limits: Http2Limits) -> None:
        self._limits = limits
        self._begun_s: float | None = None
        self._heard_s = 0.0
        self._asked = False
        self._midway_s: float | None = None
        self._midway_frame = -1
        self.heard = True
        """Set where anything has come since the last check."""
        self.frames = 0
        """Frames that have come completely."""

    def ask(self, now_s: float, *, agreed: bool, midway: bool) -> bool:
        """Return whether the client is to be asked for a sign of life.

        Args:
            now_s: monotonic.
            agreed: both sides have their settings acknowledged, or at least the client has.
            midway: a frame or a head is there in part.

        Raises:
            ConnectionFault: something has taken too long.
        """
        if self._begun_s is None:
            self._begun_s = now_s
        if not agreed and now_s - self._begun_s > self._limits.hello_s:
            raise ConnectionFault(
                Code.SETTINGS_TIMEOUT, "no preface, no settings, or no acknowledgement of ours in time"
            )
        self._check_midway(now_s, midway=midway)
        if self.heard:
            self.heard = self._asked = False
            self._heard_s = now_s
        silent_s = now_s - self._heard_s
        if silent_s > self._limits.keepalive_s + self._limits.keepalive_answer_s:
            raise ConnectionFault(Code.NO_ERROR, "no sign of life")
        if silent_s > self._limits.keepalive_s and not self._asked:
            self._asked = True
            return True
        return False

    def _check_midway(self, now_s: float, *, midway: bool) -> None:
        if not midway:
            self._midway_s = None
        elif self._midway_s is None or self._midway_frame != self.frames:
            self._midway_s, self._midway_frame = now_s, self.frames
        elif now_s - self._midway_s > self._limits.head_s:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a frame or a head that has begun was not completed in time")
