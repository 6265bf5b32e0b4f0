"""When to start a crashed server again, and when to call it a crash loop. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 30.0
STEADY_S = 60.0
"""A server that ran for so long did not crash because of how it was started."""
LOOP_CRASHES = 5
LOOP_WINDOW_S = 120.0


@dataclass
class CrashHistory:
    """The crashes that matter now."""

    in_a_row: int = 0
    total: int = 0
    recent_s: list[float] = field(default_factory=list)

    def crashed(self, now_s: float, uptime_s: float, *, blamed: bool = False) -> float:
        """Note a crash; returns how long to wait before the next start.

        One that a model is to blame for is not the server's: it starts again at once, and without that model.
        """
        self.total += 1
        if blamed:
            return FIRST_DELAY_S
        self.in_a_row = 1 if uptime_s >= STEADY_S else self.in_a_row + 1
        self.recent_s = [at_s for at_s in self.recent_s if now_s - at_s < LOOP_WINDOW_S] + [now_s]
        return float(min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(self.in_a_row - 1, 20)))

    def take_loop(self) -> bool:
        """Whether this is a crash loop; counting starts anew after a yes."""
        if len(self.recent_s) < LOOP_CRASHES:
            return False
        self.recent_s.clear()
        return True
