"""Clients of the devices: they send pictures over the V2 protocol and count what they sent and what was answered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from .digits import Labels, Pixels


@dataclass
class Tally:
    """What one client did. `acknowledged` counts answers with status 200 that were read to their end."""

    attempted: int = 0
    acknowledged: int = 0
    right: int = 0
    rows: int = 0


@dataclass
class Client(threading.Thread):
    """One client of one device. It never gives up: a refused or broken connection is an attempt without an answer."""

    port: int
    model: str
    pixels: Pixels
    labels: Labels
    seed: int
    rows_per_request: int = 8
    pause_s: float = 0.05
    tally: Tally = field(default_factory=Tally)
    refused: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True, name=f"client-{self.port}")
        self._stopping = threading.Event()
        self._random = np.random.default_rng(self.seed)
        self._lock = threading.Lock()

    __hash__ = threading.Thread.__hash__

    def show(self, pixels: Pixels) -> None:
        """From now on send these pictures (same order and labels)."""
        with self._lock:
            self.pixels = pixels

    def stop(self) -> None:
        """Finish the request that is running, then end."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stopping.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                self._ask(connection)
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                self.refused += 1
            self._stopping.wait(self.pause_s)
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            pick = self._random.integers(0, len(self.labels), self.rows_per_request)
            pictures, labels = np.ascontiguousarray(self.pixels[pick]), self.labels[pick]
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": "input",  # what nn.Sequential calls its argument
                        "shape": list(pictures.shape),
                        "datatype": "UINT8",
                        "parameters": {"binary_data_size": pictures.nbytes},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        self.tally.attempted += 1
        connection.request(
            "POST",
            f"/v2/models/{self.model}/infer",
            body=header + pictures.tobytes(),
            headers={"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"},
        )
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return
        self.tally.acknowledged += 1
        length = int(response.headers["Inference-Header-Content-Length"])
        scores = np.frombuffer(body[length:], dtype=np.float32).reshape(len(labels), -1)
        self.tally.rows += len(labels)
        self.tally.right += int((scores.argmax(axis=1) == labels).sum())


@dataclass
class Traffic:
    """All clients together."""

    clients: list[Client]

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def stop(self) -> None:
        for client in self.clients:
            client.stop()

    def show(self, pixels: Pixels) -> None:
        for client in self.clients:
            client.show(pixels)

    def total(self) -> Tally:
        """Return the sum over all clients."""
        tallies = [client.tally for client in self.clients]
        return Tally(
            attempted=sum(tally.attempted for tally in tallies),
            acknowledged=sum(tally.acknowledged for tally in tallies),
            right=sum(tally.right for tally in tallies),
            rows=sum(tally.rows for tally in tallies),
        )

    def accuracy_over(self, seconds: float) -> dict[int, float]:
        """Return each device's share of right answers over the coming seconds, by port."""
        before = {client.port: (client.tally.right, client.tally.rows) for client in self.clients}
        time.sleep(seconds)
        shares = {}
        for client in self.clients:
            right, rows = before[client.port]
            shares[client.port] = (client.tally.right - right) / max(1, client.tally.rows - rows)
        return shares
