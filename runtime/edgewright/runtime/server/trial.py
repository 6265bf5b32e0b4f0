"""The trial of a candidate: load it, test it, time it in a process of its own, and say in one line of JSON how it went.

    python -m edgewright.runtime.server.trial DIRECTORY [--emulated] [--limit-ms X]

Exit 0: passed. Exit 1: not passed, and `reason` says why. A crash or a kill says the same without JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from edgewright.targets.faults import Fault


def main() -> None:
    """Try the bundle in the directory."""
    parser = argparse.ArgumentParser(
        prog="python -m edgewright.runtime.server.trial", description="Try a candidate bundle."
    )
    parser.add_argument("directory", type=Path, help="unpacked bundle")
    parser.add_argument("--emulated", action="store_true", help="exact arithmetic, for a rehearsal device")
    parser.add_argument("--limit-ms", type=float, default=None, help="slowest median latency that passes")
    arguments = parser.parse_args()
    # Engines print to standard output from native code; the one line of JSON must stay alone there.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    verdict = try_bundle(arguments.directory, emulated=arguments.emulated, limit_ms=arguments.limit_ms)
    answer.write(json.dumps(verdict) + "\n")
    answer.flush()
    sys.exit(0 if verdict["passed"] else 1)


def try_bundle(directory: Path, *, emulated: bool, limit_ms: float | None) -> dict[str, bool | str | float | int]:
    """Return the verdict on a bundle: passed, reason, p50_ms, peak_bytes, load_s."""
    from ..engines.protocol import LoadOptions
    from .loading import load_bundle
    from .memory import peak_resident_bytes

    begun_s = time.perf_counter()
    p50_ms, reason = 0.0, ""
    try:
        p50_ms = load_bundle(directory, LoadOptions(emulated=emulated)).p50_s * 1000
    except Fault as fault:
        reason = str(fault)
    except Exception as error:  # noqa: BLE001 - an engine may raise anything: the candidate has failed
        reason = f"{type(error).__name__}: {error}"
    if not reason and limit_ms is not None and p50_ms > limit_ms:
        reason = f"median latency {p50_ms:.3f} ms is above the limit of {limit_ms:g} ms"
    return {
        "passed": not reason,
        "reason": reason,
        "p50_ms": p50_ms,
        "peak_bytes": peak_resident_bytes(),
        "load_s": time.perf_counter() - begun_s,
    }


if __name__ == "__main__":
    main()
