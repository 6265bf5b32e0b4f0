"""A running server with a port: ours, MLServer, LitServe, BentoML. Each on one core, the same for all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.quantizers.environment import peers_python
from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from edgewright.runtime.serving import GrpcSettings

from .nets import Net

PEERS = Path(__file__).resolve().parent / "scripts"
MLSERVER = ("mlserver==1.7.1", "uvloop==0.21.0", "onnxruntime==1.31.1", "numpy==2.4.6")
LITSERVE = ("litserve==0.2.19", "onnxruntime==1.31.1", "numpy==2.4.6")
BENTOML = ("bentoml==1.4.39", "onnxruntime==1.31.1", "numpy==2.4.6")
_START_S = 60.0


@dataclass(frozen=True)
class Server:
    """Where it answers."""

    pid: int
    port: int
    grpc_port: int = 0
    child: ServerChild | None = None

    def cpu_s(self) -> float:
        """Processor time of the process and its children so far."""
        return sum(_cpu_s(pid) for pid in self.processes())

    def processes(self) -> list[int]:
        """The process and all that it has started."""
        return [self.pid, *_descendants(self.pid)]


@contextmanager
def ours(net: Net, engine: str, base: Path, core: int, *, grpc: bool = False, **settings: Any) -> Iterator[Server]:
    """Our server process with the net."""
    base.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, Any] = {"grpc": GrpcSettings(address="127.0.0.1:0")} if grpc else {}
    with listen_tcp() as tcp, ServerChild([tcp], base, **wanted) as child:
        os.sched_setaffinity(child.process.pid, {core})
        for task in Path(f"/proc/{child.process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})
        reply = child.load(net.bundles[engine], net.name, "1", net.digests[engine], **settings)
        if not isinstance(reply, Done):
            raise TypeError(f"our server did not load {net.name}: {reply}")
        grpc_port = int(child.grpc_address.rpartition(":")[2]) if child.grpc_address else 0
        yield Server(child.process.pid, tcp.getsockname()[1], grpc_port, child)


@contextmanager
def mlserver(net: Net, base: Path, core: int, *, batch: int = 0) -> Iterator[Server]:
    """MLServer without worker processes (its fastest way on one core); `batch` > 0 turns its adaptive batching on."""
    folder = base / f"mlserver-{net.name}-{batch}"
    folder.mkdir(parents=True)
    port, grpc_port = _free_port(), _free_port()
    settings = {"http_port": port, "grpc_port": grpc_port, "metrics_port": _free_port(), "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
    batching = {"max_batch_size": batch, "max_batch_time": 0.001} if batch else {}
    model = {"name": net.name, "implementation": "runtime.OnnxModel", **batching}
    (folder / "model-settings.json").write_text(json.dumps(model))
    shutil.copy(PEERS / "mlserver/runtime.py", folder / "runtime.py")
    command = [str(peers_python(MLSERVER).parent / "mlserver"), "start", "."]
    with _process(command, folder, core, net, port) as pid:
        yield Server(pid, port, grpc_port)


@contextmanager
def litserve(net: Net, base: Path, core: int) -> Iterator[Server]:
    """LitServe with one worker and its fast queue; the path is /predict."""
    port = _free_port()
    command = [str(peers_python(LITSERVE)), str(PEERS / "litserve_app.py")]
    with _process(command, base, core, net, port) as pid:
        yield Server(pid, port)


@contextmanager
def bentoml(net: Net, base: Path, core: int) -> Iterator[Server]:
    """BentoML with one worker, without access log; the path is /infer."""
    port = _free_port()
    command = [str(peers_python(BENTOML).parent / "bentoml"), "serve", "bentoml_service:Net", "--port", str(port)]
    command += ["--working-dir", str(PEERS), "--host", "127.0.0.1"]
    with _process(command, base, core, net, port) as pid:
        yield Server(pid, port)


@contextmanager
def _process(command: list[str], folder: Path, core: int, net: Net, port: int) -> Iterator[int]:
    environment = {
        **os.environ,
        "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}",
        "BENCH_MODEL": str(net.onnx),
        "BENCH_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false api_server.metrics.enabled=false",
        "BENTOML_DO_NOT_TRACK": "true",
    }
    log = folder / f"{Path(command[0]).name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL) if _alive(process.pid) else None
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            time.sleep(2.0)  # the port is open before the model is loaded
            return
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_descendants(child))]


def edgewright_command() -> Path:
    """Our command in this environment."""
    return Path(sys.executable).with_name("edgewright")
