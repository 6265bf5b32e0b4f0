"""One HTTP/2 connection of a server (RFC 9113): bytes in, streams out. No sockets, no clock, no event loop."""

from __future__ import annotations

from . import frames as f
from .abuse import Floods
from .faults import Code, ConnectionFault
from .incoming import Incoming
from .limits import Http2Limits
from .liveness import Liveness
from .reading import Reading
from .sending import Sending, Write
from .stream import Opened
from .streams import Streams

_ALIVE = b"alive?\0\0"
_PREFACE_S = 1.0
"""While draining: a client has connected a moment ago, and its first request may be under way with its preface."""


class Http2:
    """The server's side of one connection.

    A stream's `Answering` hears `data`, then `ended`, or at any time `gone`; none of them after `gone`, and none after
    the stream's `end`, `answer` or `reset`. What it has not given back by `took` when the stream is over is given back
    for it. Two requests with the same head, byte for byte, mostly bring the same `Fields` object.
    """

    def __init__(self, limits: Http2Limits, opened: Opened, write: Write) -> None:
        """`write` takes bytes for the client: once for all that one `feed` causes, and for each later answer.

        It looks at `ended` each time: where that is true, these were the last bytes (there may be none), and the
        transport is to be closed.
        """
        self.failed: str | None = None
        """Why the connection was ended, where somebody broke the rules; for the log."""
        self.ended = False
        """True when nothing more is taken or sent: after a failure, after `close`, drained, or lost."""
        self._limits = limits
        self._sending = Sending(write)
        self._floods = Floods()
        self._streams = Streams(limits, self._sending, self._floods)
        self._reading = Reading(limits.frame_bytes)
        self._incoming = Incoming(limits, opened, self._streams)
        self._liveness = Liveness(limits)
        self._greeted = False
        self._leaving = False
        self._drain_s: float | None = None

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams.open)

    @property
    def idle(self) -> bool:
        """True when no stream is open and no frame and no head is being received."""
        return not (self._streams.open or self._midway)

    @property
    def _midway(self) -> bool:
        return self._reading.midway or self._incoming.midway

    def feed(self, data: bytes) -> None:
        """Take what has been received. Raises nothing, whatever it is."""
        if self.ended:
            return
        liveness, incoming = self._liveness, self._incoming
        liveness.heard = True
        self._sending.collecting = True
        try:
            if not self._greeted:
                self._greet()
            for kind, flags, stream_id, payload in self._reading.frames(data):
                incoming.take(kind, flags, stream_id, payload)
                if not incoming.midway:  # a head is no nearer to its end for a CONTINUATION without one
                    liveness.frames += 1
                if self._leaving or incoming.leaving or self._streams.spent is not None:
                    self._settle()
                if self.ended:
                    break
        except ConnectionFault as fault:
            self._fail(fault)
        finally:
            self._finish_turn()

    def pause_writing(self) -> None:
        """Hold bodies back: the transport has enough. Heads and control frames still go out; stop feeding, too."""
        self._sending.paused = True

    def resume_writing(self) -> None:
        """Send again."""
        self._liveness.heard = True
        self._sending.paused = False
        self._sending.pump()

    def drain(self) -> None:
        """Ask for no more streams, in two steps (RFC 9113, section 6.8): `ended` when those that are open are over."""
        if self._leaving or self.ended:
            return
        self._leaving = True
        if not self._greeted:
            self._greet()
        self._sending.out.append(f.goaway_frame(f.LARGEST_STREAM_ID, Code.NO_ERROR, ""))
        self._sending.out.append(f.frame(f.PING, 0, 0, f.DRAINING))
        self._sending.flush()

    def close(self, code: int = 0) -> None:
        """Say GOAWAY with `code` and end now; open streams are gone."""
        if self.ended:
            return
        if not self._greeted:
            self._greet()
        self._sending.out.append(f.goaway_frame(self._streams.last_id, code, self.failed or ""))
        self._end()

    def lost(self) -> None:
        """The transport is gone: open streams are gone, nothing is written any more."""
        self._sending.forget()
        if not self.ended:
            self._end()
        self._incoming.forget()

    def sweep(self, now_s: float) -> None:
        """Let time pass, about once a second: refill budgets, ask silent clients, end what has taken too long."""
        if self.ended:
            return
        self._sending.collecting = True
        try:
            self._floods.elapse(now_s)
            agreed = self._incoming.greeted and self._incoming.acknowledged
            if self._liveness.ask(now_s, agreed=agreed, midway=self._midway):
                self._sending.out.append(f.frame(f.PING, 0, 0, _ALIVE))
            self._streams.reset_stalled(now_s)
            self._sweep_drain(now_s)
            self._settle()
        except ConnectionFault as fault:
            self._fail(fault)
        finally:
            self._finish_turn()

    def _settle(self) -> None:
        """End where a budget is spent; go on with leaving."""
        if self._streams.spent is not None:
            raise self._streams.spent
        if not self.ended and (self._leaving or self._incoming.leaving):
            self._go_on_leaving()

    def _finish_turn(self) -> None:
        self._sending.collecting = False
        self._sending.flush(even_nothing=self.ended)

    def _go_on_leaving(self) -> None:
        """Take the second step, when the client has seen the first: the streams that it opened meanwhile are served."""
        incoming = self._incoming
        if self._leaving and incoming.drain_answered and incoming.last_allowed == f.LARGEST_STREAM_ID:
            incoming.last_allowed = self._streams.last_id
            self._sending.out.append(f.goaway_frame(incoming.last_allowed, Code.NO_ERROR, ""))
        told = incoming.last_allowed != f.LARGEST_STREAM_ID
        if told or incoming.leaving:
            # RFC 9113, section 6.8: GOAWAY goes before the end, whatever the client has said (section 7: in any code).
            end = self._end if told else self.close
            self._streams.when_none = end
            if not self._streams.open:
                end()

    def _sweep_drain(self, now_s: float) -> None:
        """Do not wait for ever for the answer to the ping between the two steps."""
        if self._leaving and self._drain_s is None:
            self._drain_s = now_s
        elif self._drain_s is not None:
            patience_s = self._limits.hello_s if self._incoming.greeted else _PREFACE_S
            if now_s - self._drain_s > patience_s:
                self._incoming.drain_answered = True

    def _greet(self) -> None:
        self._greeted = True
        limits = self._limits
        values = {
            f.MAX_CONCURRENT_STREAMS: limits.streams,
            f.INITIAL_WINDOW_SIZE: max(limits.stream_window_bytes, f.DEFAULT_WINDOW_BYTES),
            f.MAX_FRAME_SIZE: limits.frame_bytes,
            f.MAX_HEADER_LIST_SIZE: limits.head_bytes,
        }
        self._sending.out.append(f.settings_frame(values))
        more = limits.connection_window_bytes - f.DEFAULT_WINDOW_BYTES
        if more > 0:
            self._sending.out.append(f.window_update_frame(0, more))

    def _fail(self, fault: ConnectionFault) -> None:
        if not self.ended:
            self.failed = fault.why
            self.close(fault.code)

    def _end(self) -> None:
        self.ended = True
        self._streams.when_none = None
        self._streams.drop_all()
        self._sending.flush(even_nothing=True)
