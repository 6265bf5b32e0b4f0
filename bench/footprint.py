"""How much memory does the device part need, and how soon is it ready?

    python -m bench.footprint [--quick] [--check]

Trains and compiles the digits model, starts the daemon with it, and reads PSS (each shared page divided by the number
of its users) of the agent, the server and a trial process from /proc. Ready means that the model answers 200 on its
ready endpoint. `--check` exits 1 when a figure that issue A named is missed.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import record
from examples.demo import digits
from examples.demo.processes import Stage, command_line, descendants, edgewright, free_port, run_json

STEADY_LIMIT_MB = 110.0
TRIAL_LIMIT_MB = 190.0
READY_LIMIT_S = 1.5


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process in MB (10^6 bytes), 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) * 1024 / 1e6


def snapshot(pid: int) -> dict[str, float]:
    """Return PSS by role: agent, server, trial."""
    roles = {"agent": 0.0, "server": 0.0, "trial": 0.0}
    for process in descendants(pid):
        line = command_line(process)
        role = "trial" if "server.trial" in line else "server" if "runtime.server" in line else "agent"
        roles[role] += pss_mb(process)
    return roles


def is_ready(port: int, model: str | None) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", f"/v2/models/{model}/ready" if model else "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start_and_time(stage: Stage, folder: Path, port: int, model: str | None) -> tuple[int, float]:
    """Start the daemon; return its process id and the seconds until it is ready."""
    begin = time.monotonic()
    child = stage.start(
        "device",
        edgewright("device", "run", "--state-dir", str(folder / "state"), "--listen", f"127.0.0.1:{port}"),
    )
    while not is_ready(port, model):
        if time.monotonic() - begin > 30:
            raise SystemExit(f"the daemon was not ready after 30 s:\n{child.log_tail()}")
        time.sleep(0.005)
    return child.pid, time.monotonic() - begin


def compile_digits(folder: Path) -> tuple[Path, Path]:
    """Return two bundles of the digits model, versions 1 and 2."""
    digits.train(folder / "weights.safetensors", epochs=3)
    digits.write_dataset(folder / "digits.npz")
    bundles = []
    for version in ("1", "2"):
        out = folder / f"v{version}"
        run_json(
            edgewright(
                *("compile", "--model", "examples.demo.digits:build", "--weights", str(folder / "weights.safetensors")),
                *("--data", str(folder / "digits.npz"), "--metric", "top1", "--max-drop", "2%", "--scale", "0.0625"),
                *("--name", "digits", "--release-version", version, "--target", "host", "--out", str(out)),
            )
        )
        bundles.append(out / "host.bundle")
    return bundles[0], bundles[1]


def measure_trial(pid: int, state: Path, bundle: Path) -> float:
    """Install a bundle and return the highest total PSS seen while its trial process ran."""
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            roles = snapshot(pid)
            if roles["trial"] > 0:
                peak = max(peak, sum(roles.values()))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run_json(edgewright("device", "install", "--state-dir", str(state), str(bundle)))
    finally:
        done.set()
        watcher.join()
    return peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three starts instead of ten")
    parser.add_argument("--check", action="store_true", help="exit 1 when a named figure is missed")
    options = parser.parse_args()
    starts = 3 if options.quick else 10
    with tempfile.TemporaryDirectory(prefix="edgewright-footprint-") as name:
        folder = Path(name)
        first, second = compile_digits(folder)
        (folder / "state").mkdir()
        (folder / "state" / "device.toml").write_text("probation_s = 0.5\n", encoding="utf-8")
        with Stage(folder) as stage:
            port = free_port()
            pid, _ = start_and_time(stage, folder, port, None)
            run_json(
                edgewright("device", "install", "--state-dir", str(folder / "state"), "--wait", "confirmed", str(first))
            )
            stage.stop(stage.children[-1])
            ready_s = []
            for _ in range(starts):
                pid, seconds = start_and_time(stage, folder, port, "digits")
                ready_s.append(seconds)
                stage.stop(stage.children[-1])
            pid, _ = start_and_time(stage, folder, port, "digits")
            time.sleep(5)
            steady = snapshot(pid)
            trial_peak = measure_trial(pid, folder / "state", second)
    figures = {
        "agent_pss_mb": round(steady["agent"], 1),
        "server_pss_mb": round(steady["server"], 1),
        "steady_pss_mb": round(steady["agent"] + steady["server"], 1),
        "trial_peak_pss_mb": round(trial_peak, 1),
        "ready_s_median": round(statistics.median(ready_s), 3),
        "ready_s_max": round(max(ready_s), 3),
        "starts": starts,
    }
    rows = [
        ("agent + server, steady, PSS MB", figures["steady_pss_mb"], STEADY_LIMIT_MB),
        ("with a trial process, peak PSS MB", figures["trial_peak_pss_mb"], TRIAL_LIMIT_MB),
        ("start to ready, slowest, s", figures["ready_s_max"], READY_LIMIT_S),
    ]
    print(f"agent {figures['agent_pss_mb']} MB, server {figures['server_pss_mb']} MB")
    for label, value, limit in rows:
        print(f"{label:36} {value:8} (limit {limit}) {'ok' if 0 < value <= limit else 'MISSED'}")
    packages = ("onnxruntime", "numpy", "paho-mqtt", "cbor2", "msgspec", "uvloop")
    print(f"written to {record.write('footprint', figures, packages=packages).name}")
    missed = any(not 0 < value <= limit for _, value, limit in rows)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
