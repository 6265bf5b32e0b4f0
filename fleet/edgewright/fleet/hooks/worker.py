"""Makes the calls that alerts ask for, from threads of its own: nothing else in the server waits for them.

What is to be done stands in the store. A call is ended only by its outcome, so a server that was killed in the middle
makes it again, with the same id: at least once. Attempts are counted before they are made, and bounded, with growing
pauses.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from ..core.drift.alert_rules import AlertRule
from ..service import Fleet
from ..store import alerts, audit_log
from ..store.alerts import HookCall, HookKind
from . import webhook
from .outcome import HookFailed, HookPostponed
from .program import Programs
from .proposal import propose

log = logging.getLogger(__name__)

PERIOD_S = 1.0
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 3600.0
MOST_ATTEMPTS = {"webhook": 12, "command": 5, "on_drift": 3}
"""A webhook's twelve reach over two and a half hours."""
LANES: tuple[tuple[HookKind, ...], ...] = (("webhook",), ("command",), ("on_drift",))
"""A job of hours must not hold up a message."""
MAX_REASON = 1000
POSTPONED_S = 60.0
PATIENCE_S = 3.0
"""A webhook may take a minute; a server that was told to stop does not."""


class HookWorker:
    """`step` makes one call of some kinds; `start` has each lane done by a thread of its own."""

    def __init__(self, fleet: Fleet, *, clock: Callable[[], float] = time.time) -> None:
        self._fleet = fleet
        self._clock = clock
        directory = fleet.database.directory / "hooks"
        directory.mkdir(mode=0o700, exist_ok=True)
        self._programs = Programs(directory)
        self._jobs = fleet.database.directory / "jobs"
        shutil.rmtree(self._jobs, ignore_errors=True)  # of a server that was killed
        self._jobs.mkdir(mode=0o700)
        self._stopping = threading.Event()
        self._is_abandoned = False
        self._threads = [
            threading.Thread(target=self._run, args=[lane], name=f"hooks-{lane[0]}", daemon=True) for lane in LANES
        ]

    def start(self) -> None:
        """Begin to make calls."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End programs that run, wait a little for a webhook; what was not answered is called again later."""
        self._stopping.set()
        self._programs.stop()
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._is_abandoned = True

    def step(self, now_s: float, kinds: Sequence[HookKind] = ("webhook", "command", "on_drift")) -> bool:
        """Make the call that has been due for longest; False where none is."""
        with self._fleet.database.read() as connection:
            call = alerts.next_call(connection, kinds, now_s=now_s)
            stored = alerts.find_rule(connection, call.rule) if call else None
            is_up = call is not None and alerts.is_up(connection, call.alert)
        if call is None:
            return False
        if call.kind == "on_drift" and not is_up:
            ended = msgspec.structs.replace(call, ended_s=self._clock(), reason="the alert is over")
            self._write(ended, "hook.dropped")
            return True
        if call.attempts >= MOST_ATTEMPTS[call.kind]:
            ended = msgspec.structs.replace(call, ended_s=self._clock(), reason="the server ended in its last attempt")
            self._write(ended, "hook.failed")
            return True
        self._claim(call)
        try:
            if stored is None:
                raise HookFailed("the rule was removed")
            came = self._make(call, stored)
        except HookPostponed as error:
            self._postpone(call, str(error), POSTPONED_S)
        except HookFailed as error:
            if self._stopping.is_set():
                self._write(call)  # not its fault: as if it had not been made
            else:
                self._failed(call, str(error), for_good=stored is None)
        except Exception as error:  # a bug in one hook must not end the lane; the call counts as an attempt
            log.exception("hook call %s failed", call.call)
            self._failed(call, f"internal error: {error}", for_good=False)
        else:
            ended = msgspec.structs.replace(call, attempts=call.attempts + 1, ended_s=self._clock(), is_done=True)
            self._write(msgspec.structs.replace(ended, reason=came[-MAX_REASON:]), "hook.delivered")
        return True

    def _make(self, call: HookCall, stored: alerts.StoredRule) -> str:
        rule: AlertRule = stored.rule
        if call.kind == "webhook" and rule.webhook is not None:
            headers = webhook.sign(stored.secret, call.call, int(self._clock()), call.body)
            return webhook.post(rule.webhook.url, call.body, headers, timeout_s=rule.webhook.timeout_seconds)
        if call.kind == "command" and rule.command is not None:
            return self._programs.run(rule.command.argv, call.body, timeout_s=rule.command.timeout_seconds)
        if call.kind == "on_drift" and rule.on_drift is not None:
            return propose(self._fleet, self._programs, self._jobs, rule, rule.on_drift, call)
        raise HookFailed("the rule does not ask for this any more")

    def _claim(self, call: HookCall) -> None:
        """Count the attempt before it is made.

        So a call in which the server is killed is not made for ever, and one whose outcome cannot be written, on a
        full disk, is not made again every second.
        """
        attempts = call.attempts + 1
        self._write(msgspec.structs.replace(call, attempts=attempts, due_s=self._clock() + _pause_s(attempts)))

    def _failed(self, call: HookCall, reason: str, *, for_good: bool) -> None:
        attempts = call.attempts + 1
        call = msgspec.structs.replace(call, attempts=attempts, reason=reason[-MAX_REASON:])
        if for_good or attempts >= MOST_ATTEMPTS[call.kind]:
            self._write(msgspec.structs.replace(call, ended_s=self._clock()), "hook.failed")
            return
        pause_s = _pause_s(attempts)
        log.warning("%s of alert %s: %s; again in %.0f s", call.kind, call.alert, reason, pause_s)
        self._postpone(call, reason, pause_s)

    def _postpone(self, call: HookCall, reason: str, pause_s: float) -> None:
        later = msgspec.structs.replace(call, due_s=self._clock() + pause_s, reason=reason[-MAX_REASON:])
        self._write(later)

    def _write(self, call: HookCall, action: str | None = None) -> None:
        if self._is_abandoned:
            return  # the database may be another server's by now; the call is made again
        with self._fleet.database.write() as connection:
            is_open = alerts.save_call(connection, call)
            if is_open and action is not None:
                audit_log.append(
                    connection,
                    now_s=self._clock(),
                    actor="fleet",
                    action=action,
                    subject=f"alert:{call.alert}",
                    detail={"call": call.call, "kind": call.kind, "attempts": call.attempts, "reason": call.reason},
                )

    def _run(self, lane: Sequence[HookKind]) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                while not self._stopping.is_set() and self.step(self._clock(), lane):
                    pass
            except SQLAlchemyError as error:
                log.error("the database refused a hook (%s); trying again", error)
            except Exception:  # the lane goes on
                log.exception("a lane of hooks failed; trying again")


def _pause_s(attempts: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempts - 1))
