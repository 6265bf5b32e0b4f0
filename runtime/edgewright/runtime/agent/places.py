"""Where a device keeps what."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Places:
    """The paths of one state directory."""

    state: Path

    @property
    def run(self) -> Path:
        """Files that need not survive a reboot: a tmpfs under systemd."""
        given = os.environ.get("RUNTIME_DIRECTORY")
        return Path(given) if given else self.state / "run"

    @property
    def agent_socket(self) -> Path:
        """Where the commands talk to the daemon."""
        return self.state / "agent.sock"

    @property
    def server_socket(self) -> Path:
        """The inference API on a Unix socket."""
        return self.state / "server.sock"

    @property
    def admin_socket(self) -> Path:
        """The inference API that can also change what is served; mode 0600."""
        return self.run / "admin.sock"

    @property
    def tensors_socket(self) -> Path:
        """Tensors in shared memory, for programs on this machine."""
        return self.run / "tensors.sock"

    @property
    def routes(self) -> Path:
        """The routes that hold now; no file where there are none."""
        return self.state / "routes.toml"
