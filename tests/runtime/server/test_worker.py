"""A model in a process of its own, with real processes that crash, end, hang and are stopped."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgewright.runtime.control import Done, Failed
from edgewright.runtime.engines.protocol import Blocking, LoadOptions, WorkerLost
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.server.isolation import Supervised
from edgewright.runtime.server.loading import GoldenTestFailed
from edgewright.runtime.server.worker.instance import WorkerInstance
from edgewright.runtime.server.worker.loading import load_in_worker
from edgewright.runtime.server.worker.process import InputsRefused, Launch
from tests.runtime.native_bundle import needs_gcc
from tests.runtime.server.asking import ask, image_body, metrics
from tests.runtime.server.crashing_bundle import CRASH, EXIT, SLEEP, crashing_bundle
from tests.runtime.small_bundle import SmallBundle, digits_bundle

BACK_S = 60.0
"""Two seconds are promised on a device; this machine also runs other tests, and may stand still for a while."""


def image(value: float, rows: int = 1) -> dict[str, np.ndarray]:
    return {"image": np.full((rows, 64), value, np.float32)}


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fragile") / "bundle"
    crashing_bundle(directory)
    return directory


@pytest.fixture
def worker(fragile: Path) -> Iterator[WorkerInstance]:
    """However long it or we stand still, it is not taken for one that hangs."""
    instance = WorkerInstance(Launch(fragile, LoadOptions(), 4), execution_timeout_s=120.0)
    yield instance
    instance.close()


def until(done: Callable[[], object], what: str) -> float:
    begun_s = time.monotonic()
    while not done():
        assert time.monotonic() - begun_s < BACK_S, what
        time.sleep(0.01)
    return time.monotonic() - begun_s


def answers(worker: WorkerInstance) -> bool:
    try:
        return bool(worker.run(image(0.5))["scores"][0, 0] == 0.5)
    except WorkerLost:
        return False


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"
    except OSError:
        return True


@needs_gcc
def test_it_says_what_the_model_says_for_every_batch(fragile: Path) -> None:
    loaded = load_in_worker(Launch(fragile, LoadOptions(), 4), 60.0)
    try:
        assert isinstance(loaded.instance, Blocking)
        assert isinstance(loaded.instance, Supervised)
        assert loaded.instance.blocking
        assert loaded.p50_s > 0
        assert loaded.warm_up[0][0] == 1
        kept = loaded.instance.run(image(0.25))
        for rows in (1, 700, 3):  # the arena grows in between
            scores = loaded.instance.run(image(0.75, rows))["scores"]
            np.testing.assert_array_equal(scores, np.full((rows, 10), 0.75, np.float32))
        np.testing.assert_array_equal(kept["scores"], np.full((1, 10), 0.25, np.float32))
    finally:
        loaded.instance.close()


@needs_gcc
@pytest.mark.parametrize(("command", "reason"), [(CRASH, "SIGSEGV"), (EXIT, "exit code 7")])
def test_what_kills_it_costs_one_request_and_it_comes_back(worker: WorkerInstance, command: float, reason: str) -> None:
    assert lost_and_back(worker, command, reason) == 1


@needs_gcc
def test_what_hangs_in_it_is_ended_and_it_comes_back(fragile: Path) -> None:
    worker = WorkerInstance(Launch(fragile, LoadOptions(), 4), execution_timeout_s=0.5)
    try:
        assert lost_and_back(worker, SLEEP, "did not answer") >= 1, "more, where the machine stands still meanwhile"
    finally:
        worker.close()


def lost_and_back(worker: WorkerInstance, command: float, reason: str) -> int:
    """Send what ends the worker, and wait until it answers again; returns how often it was started again."""
    moves: list[tuple[bool, str]] = []
    worker.watch(lambda back, why: moves.append((back, why)))
    with pytest.raises(WorkerLost, match=reason) as caught:
        worker.run(image(command))
    assert caught.value.executing
    took_s = until(lambda: answers(worker), "the worker did not come back")
    print(f"{reason}: back after {took_s:.2f} s")
    assert [back for back, _ in moves] == [False, True] * worker.restarts
    assert reason in moves[0][1]
    return worker.restarts


@needs_gcc
def test_a_stopped_worker_is_found_and_replaced(worker: WorkerInstance) -> None:
    stopped = worker.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match=r"SIGSTOP|did not answer"):
        worker.run(image(0.5))
    until(lambda: answers(worker), "the worker did not come back")
    assert gone(stopped)


@needs_gcc
def test_a_worker_that_dies_idle_is_started_again_unasked(worker: WorkerInstance) -> None:
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: worker.pid not in {pid, None}, "the worker did not come back")
    assert answers(worker)


@needs_gcc
def test_an_input_that_the_engine_refuses_fails_alone(worker: WorkerInstance) -> None:
    pid = worker.pid
    with pytest.raises(InputsRefused, match="expected"):  # 400, as where the model runs in the server
        worker.run({"image": np.zeros((1, 3), np.float32)})
    assert answers(worker)
    assert worker.pid == pid


@needs_gcc
def test_signals_for_the_group_leave_it_to_the_server_and_close_ends_it(worker: WorkerInstance) -> None:
    pid = worker.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    assert answers(worker)
    worker.close()
    until(lambda: gone(pid), "close did not end it")
    with pytest.raises(WorkerLost):
        worker.run(image(0.5))


def test_a_worker_that_cannot_be_started_says_so_and_leaves_nothing_open() -> None:
    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for directory in ("x" * 300_000, "x\0y"):  # too long for a command line, and impossible in one
        with pytest.raises((OSError, ValueError)):
            WorkerInstance(Launch(Path(directory), LoadOptions(), 1), 60.0)
    assert open_files() <= before


def test_a_bundle_that_fails_says_so_as_in_the_server(tmp_path: Path) -> None:
    wrong = digits_bundle(tmp_path / "bad", golden_shift=0.5)
    before = threading.active_count()
    with pytest.raises(GoldenTestFailed, match="golden self-test failed"):
        load_in_worker(Launch(wrong.directory, LoadOptions(), 1), 60.0)
    until(lambda: threading.active_count() <= before, "its supervisor stays")


PARENT = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.runtime.server.worker.instance import WorkerInstance
from edgewright.runtime.server.worker.process import Launch
worker = WorkerInstance(Launch(Path(sys.argv[1]), LoadOptions(), 1), 60.0)
print(worker.pid, flush=True)
hanging = {"image": np.full((1, 64), float(sys.argv[2]), np.float32)}
threading.Thread(target=worker.run, args=(hanging,), daemon=True).start()
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_gcc
def test_it_dies_with_the_server_even_while_it_hangs(fragile: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PARENT, str(fragile), str(SLEEP)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    until(lambda: gone(int(run.stdout)), "the worker outlives the server")


def children(pid: int) -> list[int]:
    """Whose parent is the process, in order of their start; read from the children's side: its threads come and go."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and parent(entry) == pid]
    return sorted(found, key=started)


def parent(process: Path) -> int | None:
    words = stat_words(process)
    return int(words[1]) if words else None


def started(pid: int) -> int:
    words = stat_words(Path(f"/proc/{pid}"))
    return int(words[19]) if words else 0


def stat_words(process: Path) -> list[str]:
    """The words of /proc/PID/stat after the name, the state first (proc(5)); none where the process is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@needs_gcc
def test_other_models_lose_no_request_while_one_crashes_again_and_again(fragile: Path, tmp_path: Path) -> None:
    digits = digits_bundle(tmp_path / "digits")
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        port = tcp.getsockname()[1]
        assert isinstance(child.load(digits.directory, "digits", "1", digits.digest), Done)
        done = child.load(fragile, "fragile", "1", "sha256:0", isolation="worker", execution_timeout_ms=60_000)
        assert isinstance(done, Done), done
        assert done.detail["mode"] == "thread"  # microseconds, but never on the event loop
        stop, statuses = threading.Event(), []

        def client() -> None:
            while not stop.is_set():
                statuses.append(ask(port, "digits", image_body(0.5))[0])

        neighbour = threading.Thread(target=client)
        neighbour.start()
        try:
            for _ in range(2):
                assert ask(port, "fragile", image_body(CRASH))[0] == 500
                status, _, headers = ask(port, "fragile", image_body(0.5))
                assert status in {200, 503}
                assert status == 200 or int(headers["retry-after"]) >= 1
                until(lambda: ask(port, "fragile", image_body(0.5))[0] == 200, "fragile did not come back")
            os.kill(children(child.process.pid)[0], signal.SIGSTOP)
            assert ask(port, "fragile", image_body(0.5))[0] == 500
            until(lambda: ask(port, "fragile", image_body(0.5))[0] == 200, "fragile did not come back")
        finally:
            stop.set()
            neighbour.join()
        assert isinstance(child.ping(), Done)
        assert set(statuses) == {200}
        text = metrics(port)
        assert 'edgewright_worker_restarts_total{model="fragile",version="1"} 3' in text
        assert 'edgewright_breaker_closed{model="fragile",version="1"} 1' in text
        moves = [(move.model, move.state, move.crashed) for move in child.breaker_moves]
        one = [("fragile", "open", True), ("fragile", "half_open", False), ("fragile", "closed", False)]
        assert moves == one * 3  # each crash is told once
        workers = children(child.process.pid)
        assert len(workers) == 1
        assert child.drain() == 0
        until(lambda: gone(workers[0]), "the worker outlives the server")


@needs_gcc
def test_a_worker_model_is_swapped_and_unloaded_like_any_other(fragile: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    crashing_bundle(second, version="2")
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        port = tcp.getsockname()[1]
        assert isinstance(child.load(fragile, "fragile", "1", "sha256:0", isolation="worker"), Done)
        first = children(child.process.pid)
        assert isinstance(child.load(second, "fragile", "2", "sha256:1", isolation="worker"), Done)
        assert ask(port, "fragile", image_body(0.5))[1]["model_version"] == "2"
        until(lambda: gone(first[0]), "the old worker stays")
        assert isinstance(child.load(fragile, "fragile", "2", "sha256:0", isolation="worker"), Failed)
        assert isinstance(child.unload("fragile"), Done)
        until(lambda: not children(child.process.pid), "the worker stays")


def test_a_small_bundle_runs_in_a_worker_as_in_the_server(digits_like_bundle: SmallBundle) -> None:
    loaded = load_in_worker(Launch(digits_like_bundle.directory, LoadOptions(), 8), 60.0)
    try:
        inputs = {"image": np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 64)}
        expected = digits_like_bundle.run(inputs)["scores"]
        np.testing.assert_allclose(loaded.instance.run(inputs)["scores"], expected, rtol=1e-5)
    finally:
        loaded.instance.close()
