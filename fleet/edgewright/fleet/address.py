"""`host:port`, as options give it."""

from __future__ import annotations

import msgspec

from .faults import FleetError

MAX_PORT = 65535


class Address(msgspec.Struct, frozen=True):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def parse_address(text: str, *, option: str) -> Address:
    """Return the address in `host:port` or `[host]:port`.

    Raises:
        FleetError: it is neither; the message names the option.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise FleetError(f"{option} is {text!r}; expected host:port, for example 127.0.0.1:8600")
    return Address(host, int(port))
