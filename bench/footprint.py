"""How much memory does the device part need, and how soon is it ready?

    python -m bench.footprint [--quick] [--check]

Trains the digits model, compiles it for each engine, starts the daemon with it, and reads PSS (each shared page divided
by the number of its users) of the agent, the server and a trial process from /proc. Pages that no process beside the
daemon's would share, did this bench and other programs not run, are counted as on a device: half to the agent, half to
the server, or whole to the one that has them (`alone`). Ready means that the model answers 200 on its ready endpoint.
Idle is the processor time of both while nobody asks, in percent of one core. `--check` exits 1 when a figure that
issue A, E (ONNX Runtime) or C (native) named is missed.
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

LIMITS = {
    "onnxruntime": {"steady": 110.0, "trial": 190.0, "ready": 1.2, "idle": 0.5},
    "native": {"server": 32.0, "steady": 70.0, "ready": 0.5, "idle": 0.5},
}
"""Named figures: PSS in MB of server, agent and server, and both with a trial; seconds until ready, slowest start;
percent of a core while idle."""
IDLE_S = 20.0


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process in MB (10^6 bytes), 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) * 1024 / 1e6


def file_pages(pid: int) -> dict[str, tuple[int, int]]:
    """Return per mapped file the kilobytes that a process uses of it, and those of them that are its own copies."""
    pages: dict[str, tuple[int, int]] = {}
    name, resident = "", 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name = words[5] if len(words) > 5 else ""
        elif words[0] == "Rss:":
            resident = int(words[1])
        elif words[0] == "Anonymous:":
            before = pages.get(name, (0, 0))
            pages[name] = before[0] + resident, before[1] + int(words[1])
    return pages


def alone_mb(pid: int) -> dict[str, float]:
    """Return the PSS by role that a device would show, where nothing else maps the same files."""
    roles = {role_of(process): file_pages(process) for process in descendants(pid)}
    totals = {}
    for role, pages in roles.items():
        others = [other for name, other in roles.items() if name != role]
        kilobytes = 0.0
        for name, (resident, own) in pages.items():
            sharers = 1 + sum(name.startswith("/") and name in other for other in others)
            kilobytes += own + (resident - own) / sharers
        totals[role] = kilobytes * 1024 / 1e6
    return totals


def role_of(process: int) -> str:
    line = command_line(process)
    return "trial" if "server.trial" in line else "server" if "runtime.server" in line else "agent"


def snapshot(pid: int) -> dict[str, float]:
    """Return PSS by role: agent, server, trial."""
    roles = {"agent": 0.0, "server": 0.0, "trial": 0.0}
    for process in descendants(pid):
        roles[role_of(process)] += pss_mb(process)
    return roles


def idle_percent(pid: int, seconds: float) -> float:
    """Return the processor time that a daemon takes while nobody asks, in percent of one core."""
    before_s = sum(map(cpu_s, descendants(pid)))
    time.sleep(seconds)
    return (sum(map(cpu_s, descendants(pid))) - before_s) / seconds * 100


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process, to the nanosecond, 0 if it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        return 0.0


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


def train_digits(folder: Path) -> None:
    """Write the weights and the data of the digits model."""
    digits.train(folder / "weights.safetensors", epochs=3)
    digits.write_dataset(folder / "digits.npz")


def compile_digits(folder: Path, engine: str) -> tuple[Path, Path]:
    """Return two bundles of the digits model, versions 1 and 2."""
    bundles = []
    for version in ("1", "2"):
        out = folder / f"{engine}-{version}"
        run_json(
            edgewright(
                *("compile", "--model", "examples.demo.digits:build", "--weights", str(folder / "weights.safetensors")),
                *("--data", str(folder / "digits.npz"), "--metric", "top1", "--max-drop", "2%", "--scale", "0.0625"),
                *("--name", "digits", "--release-version", version, "--target", "host", "--engine", engine),
                *("--tune", "0", "--out", str(out)),
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


def measure(folder: Path, bundles: tuple[Path, Path], starts: int) -> dict[str, float]:
    """Return the figures of a daemon that serves a bundle."""
    first, second = bundles
    state = folder / "state"
    state.mkdir(parents=True)
    (state / "device.toml").write_text("probation_s = 0.5\n", encoding="utf-8")
    with Stage(folder) as stage:
        port = free_port()
        start_and_time(stage, folder, port, None)
        run_json(edgewright("device", "install", "--state-dir", str(state), "--wait", "confirmed", str(first)))
        stage.stop(stage.children[-1])
        ready_s = []
        for _ in range(starts):
            _, seconds = start_and_time(stage, folder, port, "digits")
            ready_s.append(seconds)
            stage.stop(stage.children[-1])
        pid, _ = start_and_time(stage, folder, port, "digits")
        time.sleep(5)
        steady, alone = snapshot(pid), alone_mb(pid)
        idle = idle_percent(pid, IDLE_S)
        trial_peak = measure_trial(pid, state, second)
    return {
        "agent_pss_mb": round(steady["agent"], 1),
        "server_pss_mb": round(steady["server"], 1),
        "steady_pss_mb": round(steady["agent"] + steady["server"], 1),
        "agent_alone_mb": round(alone["agent"], 1),
        "server_alone_mb": round(alone["server"], 1),
        "trial_peak_pss_mb": round(trial_peak, 1),
        "ready_s_median": round(statistics.median(ready_s), 3),
        "ready_s_max": round(max(ready_s), 3),
        "idle_cpu_percent": round(idle, 3),
        "starts": starts,
    }


def verdicts(engine: str, figures: dict[str, float]) -> list[bool]:
    """Print the figures of an engine beside their limits; return whether each is kept."""
    limits = LIMITS[engine]
    rows = {
        "server": ("server, steady, PSS MB", figures["server_pss_mb"]),
        "steady": ("agent + server, steady, PSS MB", figures["steady_pss_mb"]),
        "trial": ("with a trial process, peak PSS MB", figures["trial_peak_pss_mb"]),
        "ready": ("start to ready, slowest, s", figures["ready_s_max"]),
        "idle": ("idle, percent of a core", figures["idle_cpu_percent"]),
    }
    print(
        f"{engine}: agent {figures['agent_pss_mb']} MB, server {figures['server_pss_mb']} MB; on a device of their own"
    )
    print(f"  {figures['agent_alone_mb']} and {figures['server_alone_mb']} MB")
    kept = []
    for key, (label, value) in rows.items():
        limit = limits.get(key)
        kept.append(value > 0 and (limit is None or value <= limit))
        print(f"  {label:36} {value:8} (limit {limit or 'none'}) {'ok' if kept[-1] else 'MISSED'}")
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three starts instead of ten")
    parser.add_argument("--check", action="store_true", help="exit 1 when a named figure is missed")
    options = parser.parse_args()
    starts = 3 if options.quick else 10
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="edgewright-footprint-") as name:
        folder = Path(name)
        train_digits(folder)
        for engine in LIMITS:
            figures[engine] = measure(folder / engine, compile_digits(folder, engine), starts)
    kept = [verdict for engine in LIMITS for verdict in verdicts(engine, figures[engine])]
    packages = ("onnxruntime", "numpy", "paho-mqtt", "cbor2", "msgspec", "uvloop")
    print(f"written to {record.write('footprint', figures, packages=packages).name}")
    return 1 if options.check and not all(kept) else 0


if __name__ == "__main__":
    sys.exit(main())
