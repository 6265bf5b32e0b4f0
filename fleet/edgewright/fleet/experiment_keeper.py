"""The loop that lets experiments learn, and stops those that a guardrail ends."""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from .experimenting import Experimenting

log = logging.getLogger(__name__)

PERIOD_S = 30.0


class ExperimentKeeper:
    """Has experiments learn from a thread of its own."""

    def __init__(self, experimenting: Experimenting) -> None:
        self._experimenting = experimenting
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiments", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                self._experimenting.step()
            except SQLAlchemyError as error:
                log.error("the database refused an experiment (%s); trying again", error)
            except Exception:  # a bug in one experiment must not end the thread that stops the others
                log.exception("experiments could not learn; trying again")
