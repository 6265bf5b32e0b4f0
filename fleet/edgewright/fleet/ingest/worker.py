"""The writer thread: takes what the network thread queued, in batches, and answers after the commit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from .downlink import Postbox
from .recorder import Arrival, Recorder

log = logging.getLogger(__name__)

QUEUE_LENGTH = 5000
BATCH_LENGTH = 500
RETRY_S = 2.0
OFFER_S = 1.0


class IngestWorker:
    """A bounded queue and the one thread that empties it.

    When the queue stays full, messages are dropped and counted: devices keep what was not acknowledged and resend it.
    """

    def __init__(
        self,
        recorder: Recorder,
        postbox: Postbox,
        *,
        clock: Callable[[], float] = time.time,
        queue_length: int = QUEUE_LENGTH,
        offer_s: float = OFFER_S,
    ) -> None:
        self.recorder = recorder
        self._postbox = postbox
        self._clock = clock
        self._queue: queue.Queue[Arrival | None] = queue.Queue(queue_length)
        self._offer_s = offer_s
        self._thread = threading.Thread(target=self._run, name="ingest-writer", daemon=True)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def offer(self, topic: str, payload: bytes) -> None:
        """Queue one message; called by the network thread. Waits briefly when the queue is full, then drops."""
        try:
            self._queue.put(Arrival(topic, payload), timeout=self._offer_s)
        except queue.Full:
            self.recorder.counts["messages dropped, queue full"] += 1

    def stop(self) -> None:
        """Store what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            batch, running = self._next_batch()
            if batch:
                self._store(batch)

    def _next_batch(self) -> tuple[list[Arrival], bool]:
        batch: list[Arrival] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) >= BATCH_LENGTH:
                return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _store(self, batch: list[Arrival]) -> None:
        try:
            letters = self.recorder.record(batch, now_s=self._clock())
        except SQLAlchemyError as error:
            # A full disk, for example. Nothing was acknowledged, so nothing is lost: the devices send it again.
            self.recorder.counts["batches not stored"] += 1
            log.error("could not store %d messages (%s); devices will send them again", len(batch), error)
            time.sleep(RETRY_S)
            return
        except Exception:  # a bug that one message brings out must not end ingest, nor hold up the messages beside it
            if len(batch) > 1:
                for each in batch:
                    self._store([each])
            else:
                self.recorder.counts["messages not understood"] += 1
                log.exception("passed over a message on %r", batch[0].topic[:200])
            return
        for letter in letters:
            self._postbox.send(letter)
