"""Swaps of a large model under load: no request fails, and the memory of each version comes back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from tests.runtime.server.asking import ask, image_body
from tests.runtime.small_bundle import digits_bundle

MODEL_BYTES = 20_000_000
SWAPS = 8


def pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def pss_once_below(limit_bytes: int, pid: int) -> int:
    """Retiring answers what is under way, then collects and trims in a thread: soon, on a busy machine not at once."""
    until_s = time.monotonic() + 60
    while (found_bytes := pss_bytes(pid)) >= limit_bytes and time.monotonic() < until_s:
        time.sleep(0.1)
    return found_bytes


@pytest.mark.slow
def test_the_memory_of_what_was_replaced_comes_back_and_no_request_fails(tmp_path: Path) -> None:
    hidden = MODEL_BYTES // 4 // 75
    bundles = [
        digits_bundle(tmp_path / version, seed=int(version), hidden=hidden, version=version) for version in ("1", "2")
    ]
    with listen_tcp() as tcp, ServerChild([tcp], tmp_path) as child:
        port, stop, failed = tcp.getsockname()[1], threading.Event(), []

        def client() -> None:
            while not stop.is_set():
                status, answer, _ = ask(port, "digits", image_body(0.5))
                if status != 200:
                    failed.append(answer)

        def swap(number: int) -> None:
            bundle = bundles[number % 2]
            manifest = bundle.manifest
            assert isinstance(child.load(bundle.directory, "digits", manifest.version, bundle.digest), Done)

        swap(0)
        clients = [threading.Thread(target=client) for _ in range(2)]
        for thread in clients:
            thread.start()
        try:
            swap(1)
            threading.Event().wait(1.0)
            begin_bytes = pss_bytes(child.process.pid)
            for number in range(SWAPS):
                swap(number)
            end_bytes = pss_once_below(begin_bytes + MODEL_BYTES // 2, child.process.pid)
        finally:
            stop.set()
            for thread in clients:
                thread.join()
        print(f"{begin_bytes / 1e6:.1f} MB, after {SWAPS} swaps {end_bytes / 1e6:.1f} MB")
        assert failed == []
        assert end_bytes < begin_bytes + MODEL_BYTES / 2, "a version that was replaced is still there"
