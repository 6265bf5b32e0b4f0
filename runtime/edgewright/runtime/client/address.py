"""Where a server is, from a URL: `http://host:port`, `https://host:port`, `unix:///path/of/socket`, `tensors:///path`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Paths of PEM files: whom to trust (None trusts what the system does), and who we are (mTLS)."""

    server_ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        import ssl  # imported here because it takes 2 MB that a client on a Unix socket has no use for

        context = ssl.create_default_context(cafile=self.server_ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, taken apart."""

    host: str
    """What the Host field of a request says."""
    name: str
    port: int
    path: str | None
    """Of the Unix socket; None for TCP."""
    secure: bool
    tensors: bool = False
    """A socket for tensors in shared memory, not for HTTP."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"{'tensors' if self.tensors else 'unix'}://{self.path}"
        return f"{'https' if self.secure else 'http'}://{self.host}"


def parse_address(url: str) -> Address:
    """Return the address in a URL.

    Raises:
        ValueError: it is none of the four forms.

    >>> parse_address("http://127.0.0.1:8080").port
    8080
    >>> str(parse_address("unix:///run/edgewright/data.sock"))
    'unix:///run/edgewright/data.sock'
    """
    parts = urlsplit(url)
    if parts.scheme in {"unix", "tensors"} and not parts.netloc and parts.path.startswith("/"):
        return Address("localhost", "", 0, parts.path, secure=False, tensors=parts.scheme == "tensors")
    if parts.scheme in {"http", "https"} and parts.hostname and parts.path in {"", "/"} and parts.username is None:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return Address(parts.netloc, parts.hostname, port, None, secure=parts.scheme == "https")
    raise ValueError(
        f"{url!r} is no address of a server; "
        "expected http://HOST:PORT, https://HOST:PORT, unix:///PATH or tensors:///PATH"
    )
