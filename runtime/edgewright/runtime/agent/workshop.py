"""The steps of an update that take time: download, unpack, trial. Each runs on a job thread."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewright.bundle.archive import read_manifest, unpack
from edgewright.bundle.manifest import Manifest
from edgewright.targets.board import Board
from edgewright.targets.faults import EnvironmentFault

from ..memory_readings import read_memory
from ..storage import Storage
from .admission import DeviceFacts, refusal
from .fetch import Downloads
from .http_source import ByteSource
from .jobs import Cancelled
from .model_state import Order, Slot, SlotName
from .server_process import describe_exit, open_log
from .slots import SlotStore
from .surroundings import Refused

_MAX_VERDICT_BYTES = 64 * 1024
_MIN_TRIAL_BYTES = 256 * 1024 * 1024
"""Interpreter and engine reserve more than they use: less than this would fail every trial."""


class TrialFault(EnvironmentFault):
    """The bundle did not pass its trial."""


class Verdict(msgspec.Struct, frozen=True):
    """What the trial process prints."""

    passed: bool
    reason: str = ""
    p50_ms: float = 0.0
    peak_bytes: int = 0
    load_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the workshop works with."""

    storage: Storage
    store: SlotStore
    downloads: Downloads
    source: Callable[[], ByteSource]
    """The fleet as it is configured now; raises a Fault where there is none."""
    facts: Callable[[], DeviceFacts]
    trial_timeout_s: float
    log_path: Path


class DeviceWorkshop:
    """The real one."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        # One heavy step at a time, whatever the number of models: two trials would need twice the memory.
        self._heavy = threading.Lock()

    def fetch(self, order: Order, security_floor: int, cancelled: Cancelled) -> None:
        if not order.source.startswith("file:"):
            self._tools.downloads.fetch(order.bundle, order.source, order.size_bytes, self._tools.source(), cancelled)
        self._admit(read_manifest(self._archive(order)), order, security_floor)

    def unpack(self, order: Order, slot: SlotName, security_floor: int, cancelled: Cancelled) -> Slot:
        del cancelled
        with self._heavy:
            self._tools.store.clear(order.model, slot)
            directory = self._tools.store.directory(order.model, slot)
            manifest = unpack(
                self._archive(order), directory, expected_digest=order.bundle, filesystem=self._tools.storage
            )
        self._admit(manifest, order, security_floor)
        return Slot(
            bundle=order.bundle,
            version=manifest.version,
            security_epoch=manifest.security_epoch,
            peak_bytes=manifest.memory.peak_bytes,
            command=order.command,
        )

    def try_out(self, directory: Path, cancelled: Cancelled) -> None:
        with self._heavy:
            verdict = self._trial(directory, cancelled)
        if not verdict.passed:
            raise TrialFault(f"the trial failed: {verdict.reason}")

    def discard(self, bundle: str) -> None:
        self._tools.downloads.discard(bundle)

    def _archive(self, order: Order) -> Path:
        if order.source.startswith("file:"):
            return Path(order.source.removeprefix("file:"))
        return self._tools.downloads.path(order.bundle)

    def _admit(self, manifest: Manifest, order: Order, security_floor: int) -> None:
        reason = refusal(manifest, order, self._tools.facts(), security_floor)
        if reason:
            raise Refused(reason)

    def _trial(self, directory: Path, cancelled: Cancelled) -> Verdict:
        facts = self._tools.facts()
        memory_bytes = max(_MIN_TRIAL_BYTES, facts.memory_bytes)
        command = [sys.executable, "-m", "edgewright.runtime.agent.tether", str(os.getpid()), str(memory_bytes)]
        command += ["edgewright.runtime.server.trial", str(directory)]
        if facts.emulate:
            command.append("--emulated")
        with open_log(self._tools.log_path) as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        with process:
            watchdog = threading.Thread(
                target=_kill_late, args=(process, self._tools.trial_timeout_s, cancelled), daemon=True
            )
            watchdog.start()
            said = process.stdout.read(_MAX_VERDICT_BYTES) if process.stdout else b""
            code = process.wait()
        return _read_verdict(said, code, self._tools.trial_timeout_s)


def _kill_late(process: subprocess.Popen[bytes], timeout_s: float, cancelled: Cancelled) -> None:
    until_s = time.monotonic() + timeout_s
    while process.poll() is None:
        if cancelled.wait(0.05) or time.monotonic() >= until_s:
            process.kill()
            return


def _read_verdict(said: bytes, code: int, timeout_s: float) -> Verdict:
    try:
        return msgspec.json.decode(said, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        late = f" (it has {timeout_s:g} s)" if code == -signal.SIGKILL else ""
        return Verdict(False, f"the trial process ended without a verdict, {describe_exit(code)}{late}")


def device_facts(board: Board, host: Board, *, emulate: bool) -> DeviceFacts:
    """Return what this device is, with the memory that is free now."""
    return DeviceFacts(
        target=board.name,
        target_digest=board.digest(),
        arch=platform.machine(),
        isa=frozenset(host.cpu.isa if host.cpu else ()),
        memory_bytes=min(free_memory_bytes(), board.memory.ram_bytes),
        emulate=emulate,
    )


def free_memory_bytes(root: Path = Path("/")) -> int:
    """Return how much one more process may use: what the kernel says is available, within the control group's limit."""
    return read_memory(root).free_bytes
