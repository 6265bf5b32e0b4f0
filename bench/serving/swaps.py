"""Two versions of a 40 MB model take turns under load: does a request fail, does the memory stay?"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from edgewright.runtime.control import Done

from . import nets, servers
from .load import Load
from .requests import binary_request

RATE = 200.0


def swaps(base: Path, load: Load, core: int, count: int) -> dict[str, Any]:
    """Swap `count` times while an open loop asks."""
    versions = [nets.generated(base, "large", nets.forty_megabytes(seed), version=str(seed)) for seed in (1, 2)]
    request = base / "large.binary"
    request.write_bytes(binary_request(versions[0]))
    with servers.ours(versions[0], "onnxruntime", base / "swaps", core) as server:
        load.run(server.port, request, connections=4, seconds=1.0, rate=RATE)
        _swap(server, versions[1], "2")  # what the first swap of a process needs, it needs once
        _swap(server, versions[0], "1")
        time.sleep(1.0)
        start_mb = _resident_mb(server.pid)
        counted: dict[str, Any] = {}
        done = threading.Event()
        errors = {"failed": 0, "answered": 0, "worst_ms": 0.0}

        def ask() -> None:
            while not done.is_set():
                counted = load.run(server.port, request, connections=8, seconds=2.0, rate=RATE)
                errors["failed"] += counted["errors"] + counted["others"] + counted["shed_from_sent"]["count"]
                errors["answered"] += counted["ok_from_sent"]["count"]
                errors["worst_ms"] = max(errors["worst_ms"], counted["ok_from_due"].get("max_us", 0.0) / 1000)

        asking = threading.Thread(target=ask)
        asking.start()
        begun_s = time.monotonic()
        for turn in range(count):
            _swap(server, versions[(turn + 1) % 2], str((turn + 1) % 2 + 1))
        swapping_s = time.monotonic() - begun_s
        done.set()
        asking.join()
        time.sleep(1.0)
        end_mb = _resident_mb(server.pid)
    return {
        **counted,
        **errors,
        "swaps": count,
        "seconds_each": round(swapping_s / count, 3),
        "start_mb": start_mb,
        "end_mb": end_mb,
        "growth": round(end_mb / start_mb - 1, 4),
    }


def _swap(server: servers.Server, net: nets.Net, version: str) -> None:
    assert server.child is not None
    reply = server.child.load(net.bundles["onnxruntime"], net.name, version, net.digests["onnxruntime"])
    if not isinstance(reply, Done):
        raise TypeError(f"a swap failed: {reply}")


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return 0.0
