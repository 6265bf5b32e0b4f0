"""The load client: compiled from load.c once, run on a core of its own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("load.c")


@dataclass(frozen=True)
class Load:
    """A compiled client."""

    program: Path
    core: int

    def run(
        self, port: int, request: Path, *, connections: int, seconds: float, rate: float = 0.0, protocol: str = "http"
    ) -> dict[str, Any]:
        """Return what the client counted; see load.c. `rate` 0 is a closed loop."""
        command = ["taskset", "-c", str(self.core), str(self.program), protocol, str(port), str(request)]
        command += [str(connections), str(seconds), str(rate)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode:
            raise RuntimeError(f"the load client ended with {done.returncode}: {done.stderr}")
        counted: dict[str, Any] = json.loads(done.stdout)
        return counted


def compile_load(folder: Path, core: int) -> Load:
    """Compile load.c with gcc."""
    program = folder / "load"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", program, SOURCE], check=True)
    return Load(program, core)
