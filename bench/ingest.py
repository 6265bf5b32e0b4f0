"""How many telemetry records can one fleet server store in a second?

    python -m bench.ingest            both figures, results/ingest.json
    python -m bench.ingest --quick    a tenth of the records
    python -m bench.ingest --check    also exit 1 below FLOOR_PER_S

`recorder`: messages as they come from the broker (MAC, CBOR, every bound checked) into SQLite, batches of 500
messages, each commit with an fsync, one thread. `broker`: the same through a real Mosquitto and paho, publisher,
broker and server on this machine, until the last record is acknowledged.
"""

from __future__ import annotations

import argparse
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console
from rich.table import Table

from bench import record
from edgewright.fleet.artifacts import Artifacts
from edgewright.fleet.ingest.downlink import Postbox
from edgewright.fleet.ingest.mqtt import MqttLink
from edgewright.fleet.ingest.recorder import Arrival, Recorder
from edgewright.fleet.ingest.worker import BATCH_LENGTH, IngestWorker
from edgewright.fleet.service import Fleet
from edgewright.fleet.sim.network import MemoryNetwork
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.enrolment import Enrolling
from edgewright.runtime.telemetry import wire
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, WindowRecord

RECORDS = 30_000
RECORDS_IN_A_MESSAGE = 10
DEVICES = 100
FEATURES, BINS = 16, 32
FLOOR_PER_S = 278
"""One million devices that report once an hour."""
DIGEST = "sha256:" + "0" * 64


def window(chosen: random.Random, number: int) -> WindowRecord:
    """Return a record of the size that a model with 16 features makes."""
    return WindowRecord(
        model="digits",
        version="1",
        bundle=DIGEST,
        reference=DIGEST,
        window_start_s=60 * number,
        window_s=60,
        boot="0" * 36,
        incarnation="1" * 32,
        seq=1,
        closed=True,
        requests=600,
        failures=0,
        rows=600,
        latency_us_sum=300_000,
        latency=tuple(chosen.randrange(20) for _ in range(len(LATENCY_EDGES_US) + 1)),
        histograms=tuple(tuple(chosen.randrange(60) for _ in range(BINS)) for _ in range(FEATURES)),
    )


def messages(fleet: Fleet, count: int) -> list[Arrival]:
    """Enrol devices and return their sealed messages."""
    chosen = random.Random(1)  # noqa: S311  (the same load each time)
    made: list[Arrival] = []
    runs = count // RECORDS_IN_A_MESSAGE // DEVICES
    for name in (f"device-{number}" for number in range(DEVICES)):
        token = fleet.add_token(label="", lifetime_s=3600)
        given = fleet.enrol(token, Enrolling(name=name, target="raspberry-pi-5", target_digest=DIGEST))
        for run in range(runs):
            first = run * RECORDS_IN_A_MESSAGE + 1
            records = tuple(window(chosen, first + place) for place in range(RECORDS_IN_A_MESSAGE))
            body = msgspec.to_builtins(wire.Records(spool="spool", first_seq=first, records=records))
            envelope = wire.Envelope(v=1, kind="records", device=name, incarnation="a", seq=run + 1, body=body)
            payload = wire.seal(envelope, secret=given.secret, tenant=given.tenant, direction="up")
            made.append(Arrival(wire.topic(given.tenant, name, "up", "records"), payload))
    chosen.shuffle(made)
    return made


def measure_recorder(directory: Path, count: int) -> dict[str, float]:
    """Store without a network."""
    database = Database(directory)
    fleet = Fleet(database, Artifacts(directory / "artifacts"), now=time.time)
    load = messages(fleet, count)
    recorder = Recorder(database, tenant=fleet.tenant)
    postbox = Postbox(MemoryNetwork(), tenant=fleet.tenant, incarnation="bench")
    started_s = time.perf_counter()
    for first in range(0, len(load), BATCH_LENGTH):
        for letter in recorder.record(load[first : first + BATCH_LENGTH], now_s=time.time()):
            postbox.send(letter)
    took_s = time.perf_counter() - started_s
    database.close()
    stored = recorder.counts["records"]
    return {
        "records_per_s": stored / took_s,
        "message_bytes": sum(len(each.payload) for each in load) / len(load),
        "database_bytes_per_record": (directory / "fleet.sqlite").stat().st_size / stored,
    }


def measure_broker(directory: Path, count: int, mosquitto: str) -> dict[str, float]:
    """Store what comes through a broker."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    config = directory / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    broker = subprocess.Popen([mosquitto, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    database = Database(directory / "data")
    fleet = Fleet(database, Artifacts(directory / "data" / "artifacts"), now=time.time)
    load = messages(fleet, count)
    recorder = Recorder(database, tenant=fleet.tenant)
    link = MqttLink(host="127.0.0.1", port=port, tenant=fleet.tenant)
    worker = IngestWorker(recorder, Postbox(link, tenant=fleet.tenant, incarnation="bench"))
    try:
        worker.start()
        link.start(worker.offer)
        while not link.connected:
            time.sleep(0.05)
        time.sleep(0.5)
        expected = len(load) * RECORDS_IN_A_MESSAGE
        started_s = time.perf_counter()
        publisher = threading.Thread(target=publish, args=(load, port))
        publisher.start()
        while recorder.counts["records"] < expected and time.perf_counter() - started_s < 300:
            time.sleep(0.01)
        took_s = time.perf_counter() - started_s
        publisher.join()
    finally:
        link.stop()
        worker.stop()
        database.close()
        broker.kill()
        broker.wait()
    return {"records_per_s": recorder.counts["records"] / took_s, "lost": expected - recorder.counts["records"]}


def publish(load: list[Arrival], port: int) -> None:
    """Send everything with QoS 1 and wait until the broker has it."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench")
    client.connect("127.0.0.1", port)
    client.loop_start()
    for sent in [client.publish(each.topic, each.payload, qos=1) for each in load]:
        sent.wait_for_publish(300)
    client.disconnect()
    client.loop_stop()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {FLOOR_PER_S} records a second")
    options = parser.parse_args()
    count = RECORDS // 10 if options.quick else RECORDS
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["recorder"] = measure_recorder(Path(folder) / "alone", count)
        if mosquitto:
            figures["broker"] = measure_broker(Path(folder), count, mosquitto)
    table = Table("path", "figure", "value", title=f"{count} window records of {FEATURES} × {BINS} bins")
    for path, values in figures.items():
        for name, value in values.items():
            table.add_row(path, name, f"{value:,.0f}")
    console = Console()
    console.print(table)
    if not mosquitto:
        console.print("mosquitto is not installed: the figure through a broker is missing")
    record.write("ingest", figures, packages=("sqlalchemy", "cbor2", "paho-mqtt"))
    if options.check and min(values["records_per_s"] for values in figures.values()) < FLOOR_PER_S:
        sys.exit(1)


if __name__ == "__main__":
    main()
