"""What a technician finds in the field: damaged files, full and read-only disks, long paths, wrong modes."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgewright.runtime.agent.log import bound_log
from edgewright.runtime.memory_storage import MemoryStorage
from edgewright.targets.faults import Fault
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import DaemonProcess, requests_in

RUN = (sys.executable, "-m", "edgewright.runtime.cli", "device", "run", "--listen", "127.0.0.1:0", "--state-dir")
GARBAGE = b"\x00\xff not what you think \x80"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "state")
    yield process
    process.end()


def run_once(state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, str(state)], capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **environment}
    )


def last_segment(state: Path) -> Path:
    return max((state / "spool").glob("*.segment"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "state.json": lambda state: (state / "models/digits/state.json").write_bytes(GARBAGE),
    "state.json empty": lambda state: (state / "models/digits/state.json").write_bytes(b""),
    "a file among the models": lambda state: (state / "models/stray").write_bytes(GARBAGE),
    "credentials": lambda state: (state / "credentials.json").write_bytes(GARBAGE),
    "link memory": lambda state: (state / "link.json").write_bytes(GARBAGE),
    "cursor": lambda state: (state / "spool/cursor").write_bytes(GARBAGE),
    "spool identity": lambda state: (state / "spool/identity").write_bytes(GARBAGE),
    "spool segment": lambda state: last_segment(state).write_bytes(GARBAGE),
    "spool segment cut": lambda state: os.truncate(last_segment(state), last_segment(state).stat().st_size - 3),
    "spool segment flipped": lambda state: last_segment(state).write_bytes(
        last_segment(state).read_bytes().replace(b"digits", b"digitz", 1)
    ),
    "counters of another version": lambda state: (state / "run/old-0.counters").write_bytes(b"EWCOUNT9" + bytes(800)),
    "agent socket is a file": lambda state: (state / "agent.sock").write_bytes(GARBAGE),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_survived_and_what_is_left_serves(
    daemon: DaemonProcess, make_bundle: MakeBundle, damage: str
) -> None:
    daemon.start()
    daemon.install(make_bundle("1").archive)
    daemon.infer()
    assert daemon.stop() == 0
    DAMAGES[damage](daemon.state)
    status = daemon.start()
    assert [model["version"] for model in status["models"]] == ["1"]
    assert len(daemon.infer()) == 10
    assert bool(status["problems"]) == damage.startswith(("state.json", "credentials")), status["problems"]
    assert daemon.install(make_bundle("2", seed=2).archive)["phase"] == "confirmed"
    assert daemon.stop() == 0
    assert "Traceback" not in (daemon.state / "stdout.log").read_text()


def test_models_deleted_under_the_running_daemon(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    daemon.start()
    daemon.install(make_bundle("1").archive)
    shutil.rmtree(daemon.state / "models")
    assert len(daemon.infer()) == 10
    assert daemon.install(make_bundle("2", seed=2).archive)["phase"] == "confirmed"
    assert daemon.stop() == 0
    assert daemon.start()["models"][0]["version"] == "2"


def test_active_slot_deleted_falls_back_to_the_other(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    daemon.start()
    daemon.install(make_bundle("1").archive)
    daemon.install(make_bundle("2", seed=2).archive)
    assert daemon.stop() == 0
    shutil.rmtree(daemon.state / "models/digits" / daemon_slot(daemon.state))
    daemon.start()
    state = daemon.wait_for(lambda status: status["models"][0]["version"] == "1")["models"][0]
    assert state["last_outcome"]["phase"] == "rolled_back"
    assert len(daemon.infer()) == 10


def daemon_slot(state: Path) -> str:
    import json

    return str(json.loads((state / "models/digits/state.json").read_text())["active"])


def test_deep_and_foreign_state_directory_has_working_sockets(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path / ("d" * 100) / "Gerät-装置 1")
    try:
        assert daemon.start()["ready"]
        assert len(str(daemon.state / "agent.sock")) > 108
        assert daemon.stop() == 0
        assert not (daemon.state / "agent.sock").exists()
    finally:
        daemon.end()


def mode_of(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:  # the daemon lives, and renames and removes
        return 0


def test_nothing_is_writable_by_others_whatever_the_mask(tmp_path: Path, make_bundle: MakeBundle) -> None:
    daemon = DaemonProcess(tmp_path / "state")
    mask = os.umask(0)
    try:
        daemon.start()
        daemon.install(make_bundle("1").archive)
        own = [path for path in daemon.state.rglob("*") if path.name not in {"stdout.log", "device.toml"}]
        assert len(own) > 10
        assert [path for path in own if mode_of(path) & (stat.S_IWGRP | stat.S_IWOTH)] == []
    finally:
        os.umask(mask)
        daemon.end()


def test_state_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run_once(tmp_path / "file" / "state")
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be used" in done.stderr


def test_shared_runtime_directory_is_refused(daemon: DaemonProcess, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = subprocess.Popen(
        [*RUN, str(daemon.state)], env={**os.environ, "RUNTIME_DIRECTORY": str(shared)}, stderr=subprocess.DEVNULL
    )
    try:
        daemon.wait_for(lambda status: bool(status["ready"]))
        done = run_once(tmp_path / "other", RUNTIME_DIRECTORY=str(shared))
        assert done.returncode == 5
        assert "runs on" in done.stderr
        assert daemon.status()["ready"]
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=60) == 0


def test_long_log_of_another_process_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 3000 + b"last line\n")
        bound_log(log, max_bytes=1000)
        writer.write(b"next line\n")
        bound_log(log, max_bytes=1000)
    assert log.read_bytes() == b"next line\n"
    assert (tmp_path / "server.log.1").read_bytes().endswith(b"last line\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mount is not permitted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            return


def test_full_disk_serves_counts_and_refuses_with_a_reason(small_disk: Path, make_bundle: MakeBundle) -> None:
    daemon = DaemonProcess(small_disk / "state")
    first, second = make_bundle("1"), make_bundle("2", seed=2)
    try:
        daemon.start()
        daemon.install(first.archive)
        daemon.infer()
        fill(small_disk / "ballast")
        with pytest.raises(Fault, match="is the disk full"):
            daemon.install(second.archive, wait="probation")
        for _ in range(30):  # more than one window
            assert len(daemon.infer()) == 10
        assert daemon.status()["models"][0]["version"] == "1"
        (small_disk / "ballast").unlink()
        assert daemon.install(second.archive)["phase"] == "confirmed"
        daemon.infer()
        assert daemon.stop() == 0
        assert requests_in(daemon.state) == 32
    finally:
        daemon.end()


def test_full_disk_at_the_start_still_serves(small_disk: Path, make_bundle: MakeBundle) -> None:
    daemon = DaemonProcess(small_disk / "state")
    try:
        daemon.start()
        daemon.install(make_bundle("1").archive)
        assert daemon.stop() == 0
        fill(small_disk / "ballast")
        daemon.start()
        for _ in range(5):
            assert len(daemon.infer()) == 10
        (small_disk / "ballast").unlink()
        assert daemon.stop() == 0
        assert requests_in(daemon.state) == 5
    finally:
        daemon.end()


def test_read_only_disk_is_one_line(small_disk: Path) -> None:
    (small_disk / "state").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_once(small_disk / "state")
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "ead-only" in done.stderr


def test_state_that_the_medium_lost_is_read_from_its_copy() -> None:
    from edgewright.runtime.agent.model_state import ModelState
    from edgewright.runtime.agent.slots import SlotStore

    storage = MemoryStorage()
    store = SlotStore(storage, Path("/models"))
    store.save(ModelState(model="m", security_floor=3))
    storage.write(Path("/models/m/state.json"), GARBAGE)
    again = SlotStore(storage, Path("/models"))
    assert again.load_all()["m"].security_floor == 3
    assert len(again.damaged) == 1
