"""Budgets against floods: frames that cost the server work and bring it nothing.

Known attacks have one shape: something that a client may do once or twice, done without end (CVE-2019-9512 and the
seven others of that year, CVE-2023-44487 "rapid reset", CVE-2024-27316 CONTINUATION, CVE-2025-8671 "MadeYouReset").
Each such thing spends from a budget that time and honest work fill again. Pure: time is passed in.
"""

from __future__ import annotations

from .faults import Code, ConnectionFault

_OVERHEAD_BURST = 2000.0
_OVERHEAD_PER_S = 200.0
_RESETS_BURST = 1000.0
_RESETS_PER_S = 100.0
_OVERHEAD_OF_A_MESSAGE = 8.0
"""Frames beside the useful ones that an honest client may need for one message: window updates, a ping."""
_PAYING_BYTES = 256
"""So many bytes of a body, in either direction, pay for one frame that brings nothing."""
_HEAD_BYTES_OF_A_FRAME = 1024
"""So many bytes of a head cost what a frame costs that brings nothing: an answer pays for a head of 8 KiB."""
_PING_EVERY_S = 10.0
_PING_STRIKES = 4


class _Budget:
    __slots__ = ("_burst", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._left = burst
        self._per_s = per_s

    def spend(self, cost: float) -> bool:
        self._left -= cost
        return self._left >= 0

    def earn(self, credit: float) -> None:
        left = self._left + credit
        self._left = left if left < self._burst else self._burst  # noqa: FURB136 - a third of what min costs

    def elapse(self, time_s: float) -> None:
        self.earn(time_s * self._per_s)


class Floods:
    """What one client has left. Where a budget is spent, the methods raise `ConnectionFault` (ENHANCE_YOUR_CALM)."""

    def __init__(self) -> None:
        self._overhead = _Budget(_OVERHEAD_BURST, _OVERHEAD_PER_S)
        self._resets = _Budget(_RESETS_BURST, _RESETS_PER_S)
        self._now_s = 0.0
        self._pinged_s = float("-inf")
        self._ping_strikes = 0
        self._calls_since_ping = True

    def elapse(self, now_s: float) -> None:
        """Let time pass: `now_s` is monotonic; the first call says only where the clock stands."""
        if self._now_s:
            passed_s = max(now_s - self._now_s, 0.0)
            self._overhead.elapse(passed_s)
            self._resets.elapse(passed_s)
        self._now_s = now_s

    def overhead(self, size_bytes: int = 0) -> None:
        """Count a frame that brings nothing: it costs one, and one more for each 256 bytes of its own."""
        if not self._overhead.spend(1 + size_bytes / _PAYING_BYTES):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def head(self, size_bytes: int) -> None:
        """Count a header block that had to be decoded: its Huffman code costs far more time than bytes of a body."""
        if not self._overhead.spend(size_bytes / _HEAD_BYTES_OF_A_FRAME):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many large heads")

    def reset(self) -> None:
        """Count a stream that ended before its answer did, by the client's word or by the client's fault."""
        if not self._resets.spend(1):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many streams reset")

    def ping(self) -> None:
        """Count a PING by gRPC's rule (grpc/doc/keepalive.md), with a second's grace: time comes in seconds here."""
        self.overhead()
        too_early = not self._calls_since_ping and self._now_s - self._pinged_s < _PING_EVERY_S - 1
        self._ping_strikes = self._ping_strikes + 1 if too_early else 0
        self._pinged_s = self._now_s
        self._calls_since_ping = False
        if self._ping_strikes >= _PING_STRIKES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too_many_pings")

    def received(self, size_bytes: int, ends: bool) -> None:
        """Count DATA with so many bytes of a body."""
        self._calls_since_ping = True
        if size_bytes >= _PAYING_BYTES:
            self._overhead.earn(size_bytes / _PAYING_BYTES)
        elif not ends:
            self.overhead()

    def message(self) -> None:
        """Count a part of an answer that has been handed on to be sent: work that no other frame can provoke."""
        self._calls_since_ping = True
        self._overhead.earn(_OVERHEAD_OF_A_MESSAGE)

    def sent(self, size_bytes: int) -> None:
        """Count DATA that has been sent. Under a tiny window it earns nearly nothing (CVE-2019-9511)."""
        self._overhead.earn(size_bytes / _PAYING_BYTES)

    def stray(self, size_bytes: int) -> None:
        """Count DATA of a stream that is over: in large frames that is what was under way, in small ones a flood."""
        if size_bytes < _PAYING_BYTES:
            self.overhead()

    def answered(self) -> None:
        """Count a stream whose answer the client has let end."""
        self._resets.earn(1)
