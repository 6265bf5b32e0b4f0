"""A thread that does one thing again and again, and that no single failure ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)


class Periodic:
    """Calls `step` each `period_s` seconds from a thread of its own, the first time after one period.

    What a step leaves undone is done by the next one: the database may refuse one (a full disk), and a bug in one
    decision must not end the loop that could take a bad release back.
    """

    def __init__(self, name: str, step: Callable[[], object], *, period_s: float) -> None:
        self._name = name
        self._step = step
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_stopping(self) -> bool:
        """Whether a step that goes on for long should come to its end."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            try:
                self._step()
            except SQLAlchemyError as error:
                log.error("%s: the database refused a step (%s); trying again", self._name, error)
            except Exception:  # whatever it is, it is logged whole, and the next step comes
                log.exception("%s: a step failed; trying again", self._name)
