"""A device that has only what `pip install edgewright` brings: no engine, no compiler, nothing to train with."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.demo.processes import Stage, command_line, descendants, edgewright, free_port, wait_until
from examples.demo.world import Device

ABSENT = ("onnxruntime", "onnx", "onnx_ir", "torch", "sklearn", "ziglang")
STAND_IN = """
from pathlib import Path
Path(__file__).with_suffix(".wanted").touch()
raise ModuleNotFoundError(f"No module named {__name__!r}", name=__name__)
"""


@dataclass
class BareDevice:
    """Its daemon, its commands and a client; all of them run without the packages that are absent there."""

    folder: Path
    stage: Stage
    device: Device = field(init=False)

    def __post_init__(self) -> None:
        packages = self.folder / "absent"
        packages.mkdir(parents=True)
        for name in ABSENT:
            (packages / f"{name}.py").write_text(STAND_IN, encoding="utf-8")
        # Found before the installed packages, by child processes too.
        search = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH"))))
        self.environment = {**os.environ, "PYTHONPATH": search}
        self.device = Device("bare", "host", self.folder / "state", free_port())
        self.device.state.mkdir()
        (self.device.state / "device.toml").write_text("probation_s = 1.0\n", encoding="utf-8")

    def wanted(self) -> list[str]:
        """The absent packages that somebody tried to import."""
        return sorted(path.stem for path in (self.folder / "absent").glob("*.wanted"))

    def start(self) -> None:
        command = edgewright(
            *("device", "run", "--state-dir", str(self.device.state), "--listen", f"127.0.0.1:{self.device.port}")
        )
        socket = self.device.state / "agent.sock"
        socket.unlink(missing_ok=True)
        self.device.child = self.stage.start("device", command, environment=self.environment)
        wait_until(socket.exists, timeout_s=120, what="the agent's socket")

    def stop(self) -> None:
        assert self.device.child is not None
        self.stage.stop(self.device.child)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `edgewright …` there."""
        done = subprocess.run(
            edgewright(*arguments), capture_output=True, text=True, check=False, timeout=120, env=self.environment
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def install(self, bundle: Path, wait: str = "confirmed") -> subprocess.CompletedProcess[str]:
        return self.command("device", "install", str(bundle), "--wait", wait, "--state-dir", str(self.device.state))

    def versions(self, model: str) -> list[str]:
        """The versions that are served."""
        found = self.device.model(model)
        return list(found["versions"]) if found else []

    def server(self) -> int:
        """The process id of the server, once there is one."""
        found: list[int] = []

        def runs() -> bool:
            assert self.device.child is not None
            everyone = descendants(self.device.child.pid)
            found[:] = [pid for pid in everyone if "edgewright.runtime.server " in command_line(pid) + " "]
            return bool(found)

        wait_until(runs, timeout_s=120, what="the server")
        return found[0]

    def ask(self, model: str, name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """One request with one input, and its first output.

        Raises:
            OSError: no answer.
            HTTPException: no answer.
        """
        tensor: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(rows.shape)}
        connection = http.client.HTTPConnection("127.0.0.1", self.device.port, timeout=60)
        try:
            body = json.dumps({"inputs": [{**tensor, "data": rows.ravel().tolist()}]})
            connection.request("POST", f"/v2/models/{model}/infer", body)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 200, answer
        (output,) = answer["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])


@contextmanager
def bare_device(folder: Path) -> Iterator[BareDevice]:
    """A device that runs; nothing of it is left afterwards."""
    with Stage(folder) as stage:
        found = BareDevice(folder, stage)
        found.start()
        yield found
