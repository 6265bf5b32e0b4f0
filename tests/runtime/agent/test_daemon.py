"""Real processes: install, refuse, kill, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle.manifest import MemoryNeed
from edgewright.runtime.storage import LocalStorage
from edgewright.runtime.telemetry.records import UpdateRecord, WindowRecord
from edgewright.runtime.telemetry.spool import Spool
from edgewright.targets.faults import EnvironmentFault, UserFault
from tests.runtime.agent.conftest import MakeBundle
from tests.runtime.agent.daemon_process import IMAGE, DaemonProcess
from tests.runtime.small_bundle import SmallBundle

RUN = (sys.executable, "-m", "edgewright.runtime.cli", "device", "run", "--state-dir")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path / "state")
    yield process
    process.end()


def expected(bundle: SmallBundle) -> list[float]:
    return list(bundle.run({"image": IMAGE})["scores"][0])


def crashed_and_back(crashes: int) -> Callable[[dict[str, Any]], bool]:
    return lambda status: bool(status["server"]["crashes"] == crashes and status["server"]["running"])


def gone(daemon: DaemonProcess) -> bool:
    return not daemon.leftovers()


def test_good_bundles_serve_and_bad_ones_are_refused_while_the_good_one_serves_on(
    daemon: DaemonProcess, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    first, second = make_bundle("1"), make_bundle("2", seed=2)
    begun_s = time.monotonic()
    assert daemon.start()["models"] == []
    assert time.monotonic() - begun_s < 30
    assert daemon.install(first.archive)["phase"] == "confirmed"
    np.testing.assert_allclose(daemon.infer(), expected(first), rtol=1e-5)

    with pytest.raises(UserFault, match="compiled for target raspberry-pi-5, this device is host"):
        daemon.install(make_bundle("3", target="raspberry-pi-5").archive)
    with pytest.raises(UserFault, match="golden"):
        daemon.install(make_bundle("4", golden_shift=1.0).archive)
    with pytest.raises(UserFault, match="too big"):
        daemon.install(make_bundle("5", memory=MemoryNeed(model_bytes=1, peak_bytes=2**50)).archive)
    cut = tmp_path / "cut.bundle"
    cut.write_bytes(first.archive.read_bytes()[:5000])
    with pytest.raises(UserFault, match="ends"):
        daemon.install(cut)
    np.testing.assert_allclose(daemon.infer(), expected(first), rtol=1e-5)

    assert daemon.install(second.archive)["version"] == "2"
    np.testing.assert_allclose(daemon.infer(), expected(second), rtol=1e-5)
    assert daemon.stop() == 0
    assert gone(daemon)
    daemon.start()
    np.testing.assert_allclose(daemon.infer(), expected(second), rtol=1e-5)


def test_security_floor_holds_after_confirmation(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    daemon.start()
    daemon.install(make_bundle("1", security_epoch=1).archive)
    daemon.install(make_bundle("2", seed=2, security_epoch=2).archive)
    assert daemon.model()["rollback_version"] is None
    with pytest.raises(UserFault, match="below this device's floor 2"):
        daemon.install(make_bundle("3", seed=3, security_epoch=1).archive)
    assert daemon.model()["version"] == "2"


def test_rollback_goes_back_and_forth_stays_possible(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    from edgewright.runtime.agent.client import ask

    first = make_bundle("1")
    daemon.start()
    daemon.install(first.archive)
    daemon.install(make_bundle("2", seed=2).archive)
    result = list(ask(daemon.state, op="rollback", model="digits"))[-1]["result"]
    assert result["version"] == "1"
    np.testing.assert_allclose(daemon.infer(), expected(first), rtol=1e-5)
    assert (
        daemon.wait_for(lambda status: status["models"][0]["phase"] == "idle")["models"][0]["rollback_version"] == "2"
    )
    with pytest.raises(UserFault, match="no model 'nothing'"):
        list(ask(daemon.state, op="rollback", model="nothing"))


def test_killed_server_comes_back_with_its_model(daemon: DaemonProcess, make_bundle: MakeBundle) -> None:
    bundle = make_bundle("1")
    daemon.start()
    daemon.install(bundle.archive)
    for crashes in (1, 2):
        os.kill(daemon.status()["server"]["pid"], signal.SIGKILL)
        daemon.wait_for(crashed_and_back(crashes))
        np.testing.assert_allclose(daemon.infer(), expected(bundle), rtol=1e-5)


def test_server_that_keeps_dying_in_probation_is_rolled_back(tmp_path: Path, make_bundle: MakeBundle) -> None:
    first, second = make_bundle("1"), make_bundle("2", seed=2)
    daemon = DaemonProcess(tmp_path / "state", probation_s=2.0)
    try:
        daemon.start()
        daemon.install(first.archive)
        daemon.install(second.archive, wait="probation")
        for crashes in (1, 2, 3):
            os.kill(daemon.status()["server"]["pid"], signal.SIGKILL)
            daemon.wait_for(crashed_and_back(crashes))
        state = daemon.wait_for(lambda status: status["models"][0]["version"] == "1")["models"][0]
        assert state["last_outcome"]["phase"] == "rolled_back"
        assert "died 3 times" in state["last_outcome"]["reason"]
        np.testing.assert_allclose(daemon.infer(), expected(first), rtol=1e-5)
    finally:
        daemon.end()


def test_killed_agent_leaves_no_server_and_the_next_one_takes_over(
    daemon: DaemonProcess, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle("1")
    daemon.start()
    daemon.install(bundle.archive)
    for _ in range(3):
        daemon.infer()
        daemon.kill()
        daemon.start()
        np.testing.assert_allclose(daemon.infer(), expected(bundle), rtol=1e-5)
    daemon.infer()
    daemon.kill()
    assert gone(daemon)
    daemon.start()
    assert daemon.stop() == 0
    spool = Spool.open(LocalStorage(), daemon.state / "spool", new_identity="x", now_s=0.0)
    latest: dict[tuple[str, int], WindowRecord] = {}
    for _, record in spool.read(1, max_bytes=10**7):
        if isinstance(record, WindowRecord):
            key = (record.incarnation, record.window_start_s)
            # A kill between the commit of a record and the removal of its file brings it again: that adds nothing.
            assert key not in latest or latest[key].seq < record.seq or latest[key] == record
            latest[key] = record
    assert sum(record.requests for record in latest.values()) == 7
    updates = [r.phase for _, r in spool.read(1, max_bytes=10**7) if isinstance(r, UpdateRecord)]
    assert updates == ["fetching", "installing", "trial", "activating", "probation", "confirmed"]


def test_second_daemon_on_the_same_state_is_refused(daemon: DaemonProcess) -> None:
    daemon.start()
    second = subprocess.run(
        [*RUN, str(daemon.state)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 5
    assert "runs on" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert daemon.status()["ready"]


def test_busy_port_is_one_clear_error(daemon: DaemonProcess, tmp_path: Path) -> None:
    address = daemon.start()["listen"]
    second = subprocess.run(
        [*RUN, str(tmp_path / "other"), "--listen", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 5
    assert f"cannot listen on {address}" in second.stderr


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_ends_cleanly(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path / "state")
    daemon.state.mkdir(exist_ok=True)
    with (daemon.state / "stdout.log").open("ab") as log:
        daemon.process = subprocess.Popen([*RUN, str(daemon.state)], stdout=log, stderr=log, start_new_session=True)
    try:
        daemon.wait_for(lambda status: bool(status["ready"]))
        os.killpg(daemon.process.pid, signal.SIGINT)
        assert daemon.process.wait(timeout=60) == 130
        assert gone(daemon)
        assert "Traceback" not in (daemon.state / "stdout.log").read_text()
    finally:
        daemon.end()


def test_no_daemon_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="edgewright device run"):
        DaemonProcess(tmp_path / "nothing").status()


def test_agent_imports_neither_numpy_nor_engine_nor_rich() -> None:
    code = (
        "import edgewright.runtime.device_cli, edgewright.runtime.agent.daemon, edgewright.runtime.agent.device,"
        "edgewright.runtime.agent.device_link, sys;"
        "print([name for name in ('numpy', 'onnxruntime', 'rich', 'asyncio', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
