"""Counter files: what is written is read, torn and foreign files are told apart, and a `kill -9` loses no count."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.server.recorder import Counted, CounterStore, Recorder
from edgewright.runtime.telemetry.counters import (
    CounterFile,
    CounterFileError,
    Identity,
    counter_path,
    incarnation_of,
    read_counters,
)
from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, WindowRecord
from tests.runtime.small_bundle import SmallBundle

IDENTITY = Identity(
    model="m",
    version="3",
    bundle="sha256:b",
    reference="sha256:r",
    window_start_s=1200,
    window_s=60,
    boot="boot",
    incarnation="abc",
    histogram_sizes=(2, 3),
)


def new_file(directory: Path, number: int = 0) -> CounterFile:
    return CounterFile.create(directory, number, IDENTITY)


def only(directory: Path) -> Path:
    """Return the one counter file there is."""
    (path,) = directory.glob("*.counters")
    return path


def test_what_is_counted_is_read(tmp_path: Path) -> None:
    file = new_file(tmp_path)
    with file.update():
        file.count((55,), rows=4, failures=0)
        file.histogram_cells[1] += 4
    with file.update():
        file.count((10**9,), rows=1, failures=1)
        file.histogram_cells[4] += 1
    record = read_counters(counter_path(tmp_path, "abc", 0), writer_alive=True)
    assert (record.requests, record.failures, record.rows, record.latency_us_sum) == (2, 1, 5, 10**9 + 55)
    assert record.histograms == ((0, 4), (0, 0, 1))
    assert (record.seq, record.closed) == (2, False)
    assert record.latency[-1] == 1
    assert (record.model, record.window_start_s, record.incarnation) == ("m", 1200, "abc")
    file.close()
    closed = read_counters(only(tmp_path), writer_alive=True)
    assert closed.closed
    assert closed.seq == 3
    assert closed == read_counters(only(tmp_path), writer_alive=False)


@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_each_latency_is_in_the_bin_of_its_edges(latencies: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        file = new_file(Path(directory))
        for latency in latencies:
            with file.update():
                file.count((latency,), rows=1, failures=0)
        record = read_counters(only(Path(directory)), writer_alive=True)
        file.close()
    assert sum(record.latency) == record.requests == len(latencies)
    for index, edge in enumerate(LATENCY_EDGES_US):
        assert sum(record.latency[: index + 1]) == sum(latency < edge for latency in latencies)


def test_a_file_of_a_release_before_labels_and_energy_is_read(tmp_path: Path) -> None:
    """Left behind by the release that was updated: written here by hand, byte for byte as that one did."""
    identity = (
        b'{"model":"m","version":"3","bundle":"sha256:b","reference":"sha256:r","window_start_s":1200,"window_s":60,'
        b'"boot":"boot","incarnation":"abc","histogram_sizes":[2,3]}'
    )
    padding = bytes(-len(identity) % 8)
    latency = [0] * (len(LATENCY_EDGES_US) + 1)
    latency[3] = 2
    cells = [2, 1, 5, 777, *latency, 0, 4, 0, 0, 1]
    head = b"EWCOUNT1" + struct.pack("=4Q", 2, 0, len(identity), len(cells)) + identity + padding
    path = counter_path(tmp_path, "abc", 0)
    path.write_bytes(head + struct.pack(f"={len(cells) + 1}Q", *cells, 2))
    for writer_alive in (True, False):
        record = read_counters(path, writer_alive=writer_alive)
        assert (record.requests, record.failures, record.rows, record.latency_us_sum) == (2, 1, 5, 777)
        assert record.latency == tuple(latency)
        assert record.histograms == ((0, 4), (0, 0, 1))
        assert (record.energy_uj_sum, record.energy_requests) == (0, 0)
        assert (record.shadow_rows, record.shadow_disagreements) == (0, 0)
        assert (record.labelled, record.labelled_correct) == ((), ())
    assert (record.closed, record.crashes, record.seq) == (True, 1, 3)


def test_a_writer_that_died_in_the_middle_of_an_update_leaves_a_consistent_closed_record(tmp_path: Path) -> None:
    file = new_file(tmp_path)
    with file.update():
        file.count((5,), rows=1, failures=0)
    living = read_counters(only(tmp_path), writer_alive=True)
    content = bytearray(only(tmp_path).read_bytes())
    struct.pack_into("=Q", content, len(content) - 8, 2)  # the second update had begun
    first_cell = len(content) - 8 * (4 + len(LATENCY_EDGES_US) + 1 + 5 + 1)
    struct.pack_into("=Q", content, first_cell + 8 * 4, 2)  # a latency was counted, the request not yet
    file.close()
    only(tmp_path).write_bytes(content)
    with pytest.raises(CounterFileError, match="changed all the time"):
        read_counters(only(tmp_path), writer_alive=True)
    record = read_counters(only(tmp_path), writer_alive=False)
    assert record.closed
    assert record.seq > living.seq
    assert record.requests == sum(record.latency) == 2


def test_a_reader_never_sees_half_an_update(tmp_path: Path) -> None:
    """A second process updates as fast as it can; requests, rows and histogram must agree in every reading."""
    script = f"""
import sys
from pathlib import Path
from edgewright.runtime.telemetry.counters import CounterFile, Identity
import msgspec
identity = msgspec.json.decode({msgspec_json(IDENTITY)!r}, type=Identity)
file = CounterFile.create(Path(sys.argv[1]), 0, identity)
print("go", flush=True)
for _ in range(10**9):
    with file.update():
        file.histogram_cells[0] += 7
        file.count((30,), rows=7, failures=0)
"""
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"go\n"
        seen: list[int] = []
        least_s, end_s = time.monotonic() + 1.0, time.monotonic() + 60.0
        while time.monotonic() < least_s or (len(set(seen)) <= 10 and time.monotonic() < end_s):
            record = read_counters(counter_path(tmp_path, "abc", 0), writer_alive=True)
            assert record.rows == 7 * record.requests == record.histograms[0][0]
            assert record.seq == record.requests
            seen.append(record.seq)
        assert len(set(seen)) > 10
        assert seen == sorted(seen)
    finally:
        writer.kill()
        writer.communicate()


def msgspec_json(identity: Identity) -> bytes:
    import msgspec

    return msgspec.json.encode(identity)


@pytest.mark.parametrize("damage", ["empty", "magic", "cut", "cells", "identity", "sizes"])
def test_a_file_that_is_no_counter_file_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    file = new_file(tmp_path)
    good = only(tmp_path).read_bytes()
    file.close()
    content = {
        "empty": b"",
        "magic": b"X" + good[1:],
        "cut": good[:-8],
        "cells": good[:32] + struct.pack("=Q", 2**60) + good[40:],
        "identity": good[:40] + b"\xff" + good[41:],
        "sizes": good.replace(b"[2,3]", b"[2,4]"),
    }[damage]
    path = tmp_path / "x-0.counters"
    path.write_bytes(content)
    with pytest.raises(CounterFileError):
        read_counters(path, writer_alive=False)
    with pytest.raises(CounterFileError):
        read_counters(tmp_path / "absent-0.counters", writer_alive=False)


def test_the_file_name_tells_the_run_of_the_server(tmp_path: Path) -> None:
    assert incarnation_of(counter_path(tmp_path, "a-b", 12)) == "a-b"


def test_a_directory_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CounterFileError, match="cannot make"):
        new_file(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


class Counting:
    """A recorder of one bundle in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = CounterStore(directory, "boot", "run", 60)

    def recorder(self) -> Recorder:
        counted = Counted(model="m", version="1", bundle="b", reference="r", histogram_sizes=())
        return Recorder(self.store, counted)

    def records(self) -> list[WindowRecord]:
        return [read_counters(path, writer_alive=True) for path in sorted(self.directory.glob("*.counters"))]


def count_one(recorder: Recorder, now_s: float) -> None:
    recorder.record(now_s, (1,), rows=1)


def test_each_window_has_a_file_and_idle_windows_have_none(tmp_path: Path) -> None:
    counting = Counting(tmp_path)
    recorder = counting.recorder()
    for now_s in (120.0, 179.9, 180.0, 600.5):
        count_one(recorder, now_s)
    assert [(r.window_start_s, r.requests, r.closed) for r in counting.records()] == [
        (120, 2, True),
        (180, 1, True),
        (600, 1, False),
    ]
    recorder.tick(659.0)
    assert not counting.records()[-1].closed
    recorder.tick(660.0)
    assert counting.records()[-1].closed


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 600)), max_size=40))
def test_no_two_files_of_one_run_share_a_key_whatever_the_clock_does(steps: list[tuple[int, int]]) -> None:
    """The clock may jump and a bundle may be loaded twice: cumulative records of one key would replace each other."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        counting = Counting(Path(directory))
        recorders = [counting.recorder(), counting.recorder()]
        for which, now_s in steps:
            count_one(recorders[which], float(now_s))
        for recorder in recorders:
            recorder.close()
        records = counting.records()
    keys = [(record.incarnation, record.window_start_s) for record in records]
    assert len(keys) == len(set(keys))
    assert sum(record.requests for record in records) == len(steps)


class FullStore(CounterStore):
    """A store whose disk can be full."""

    full = False

    def create(self, counted: Counted, start_s: int) -> CounterFile:
        if self.full:
            raise CounterFileError("No space left on device")
        return super().create(counted, start_s)

    def has_room(self, size_bytes: int) -> bool:
        return not self.full and super().has_room(size_bytes)


def full_counting(directory: Path, sizes: tuple[int, ...] = ()) -> tuple[Counting, FullStore, Recorder]:
    counting = Counting(directory)
    counting.store = store = FullStore(directory, "boot", "run", 60)
    counted = Counted(model="m", version="1", bundle="b", reference="r", histogram_sizes=sizes)
    return counting, store, Recorder(store, counted)


def test_on_a_full_disk_counts_go_on_in_the_file_of_the_window_before(tmp_path: Path) -> None:
    counting, store, recorder = full_counting(tmp_path)
    count_one(recorder, 120.0)
    store.full = True
    for now_s in (180.0, 181.5, 300.0):
        recorder.tick(now_s)
        count_one(recorder, now_s)
    assert [(r.window_start_s, r.requests, r.closed) for r in counting.records()] == [(120, 4, False)]
    store.full = False
    recorder.tick(301.5)
    count_one(recorder, 302.0)
    assert [(r.window_start_s, r.requests, r.closed) for r in counting.records()] == [(120, 4, True), (300, 1, False)]
    assert recorder.uncounted == 0


def test_on_a_disk_full_from_the_start_counts_wait_in_memory(tmp_path: Path) -> None:
    counting, store, recorder = full_counting(tmp_path, (2,))
    store.full = True
    for now_s in (120.0, 121.5, 190.0):
        recorder.record(now_s, (5,), rows=2)
        recorder.observed(np.array([1, 2], np.uint64))
        recorder.tick(now_s)
    assert counting.records() == []
    assert recorder.uncounted == 3
    store.full = False
    recorder.tick(192.0)
    recorder.record(192.0, (5,), rows=2)
    recorder.observed(np.array([1, 2], np.uint64))
    (record,) = counting.records()
    assert (record.requests, record.rows, record.latency_us_sum, sum(record.latency)) == (4, 8, 20, 4)
    assert record.histograms == ((4, 8),)
    recorder.close()


def test_counts_in_memory_are_written_at_the_end_if_there_is_room(tmp_path: Path) -> None:
    counting, store, recorder = full_counting(tmp_path)
    store.full = True
    count_one(recorder, 120.0)
    store.full = False
    recorder.close()
    assert [(r.requests, r.closed) for r in counting.records()] == [(1, True)]


def test_counting_that_fails_does_not_stop_serving(tmp_path: Path) -> None:
    recorder = Counting(tmp_path / "absent").recorder()
    count_one(recorder, 1.0)
    assert recorder.uncounted == 1
    recorder.close()


def test_kill_9_in_the_middle_of_traffic_keeps_acknowledged_at_most_counted_at_most_attempted(
    digits_like_bundle: SmallBundle, tmp_path: Path
) -> None:
    bundle, counters = digits_like_bundle, tmp_path / "counters"
    counters.mkdir()
    attempted: list[int] = []
    acknowledged: list[int] = []
    with listen_tcp() as tcp:
        for _ in range(4):
            with ServerChild([tcp], counters, window_s=1) as child:
                assert isinstance(child.load(bundle.directory, "digits", "1", bundle.digest), Done)
                stop = threading.Event()
                port = tcp.getsockname()[1]
                clients = [threading.Thread(target=send, args=(port, stop, attempted, acknowledged)) for _ in range(3)]
                for client in clients:
                    client.start()
                enough, end_s = len(acknowledged) + 30, time.monotonic() + 60
                while len(acknowledged) < enough and time.monotonic() < end_s:
                    time.sleep(0.01)
                time.sleep(os.urandom(1)[0] / 2000)
                child.kill()
                stop.set()
                for client in clients:
                    client.join()
    records = [read_counters(path, writer_alive=False) for path in counters.glob("*.counters")]
    assert all(record.closed and record.requests == sum(record.latency) for record in records)
    counted = sum(record.requests for record in records)
    assert 100 < len(acknowledged) <= counted <= len(attempted)


def send(port: int, stop: threading.Event, attempted: list[int], acknowledged: list[int]) -> None:
    data = json.dumps([0.5] * 64)
    body = f'{{"inputs":[{{"name":"image","shape":[1,64],"datatype":"FP32","data":{data}}}]}}'.encode()
    request = b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        while not stop.is_set():
            attempted.append(1)
            try:
                connection.sendall(request)
                answer = connection.recv(65536)
            except OSError:
                return
            if not answer.startswith(b"HTTP/1.1 200 "):
                return
            acknowledged.append(1)


def test_energy_shadow_and_labels_are_read_beside_the_histograms(tmp_path: Path) -> None:
    identity = Identity(**{**{name: getattr(IDENTITY, name) for name in IDENTITY.__struct_fields__}, "label_bins": 2})
    file = CounterFile.create(tmp_path, 0, identity)
    file.add_energy(1500, 3)
    file.add_shadow(10, 2)
    file.add_labels([(0, False), (1, True), (1, True)])
    file.histogram_cells[4] += 7
    record = read_counters(only(tmp_path), writer_alive=True)
    assert (record.energy_uj_sum, record.energy_requests) == (1500, 3)
    assert (record.shadow_rows, record.shadow_disagreements) == (10, 2)
    assert (record.labelled, record.labelled_correct) == ((1, 2), (0, 2))
    assert record.histograms == ((0, 0), (0, 0, 7))
    file.close()


def test_only_a_server_that_did_not_close_its_file_has_crashed(tmp_path: Path) -> None:
    new_file(tmp_path, 0)
    new_file(tmp_path, 1).close()
    crashes = [read_counters(counter_path(tmp_path, "abc", n), writer_alive=False).crashes for n in (0, 1)]
    assert crashes == [1, 0]
    assert read_counters(counter_path(tmp_path, "abc", 0), writer_alive=True).crashes == 0
