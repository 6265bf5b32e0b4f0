"""What the server's process does without: OpenSSL, which costs it 3 MB and which it never calls.

It listens on loopback and a Unix socket without TLS, and of hashlib it wants SHA-256 of a few megabytes. asyncio and
hashlib are made to work where Python was built without OpenSSL, so they are imported as if it had been. uvloop is not,
and gets a stand-in to take names from. Whoever imports `ssl` afterwards gets the real one.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType


class _NoTls(ModuleType):
    """In place of `ssl` for one import: error numbers are 0, everything else is an exception that nobody raises."""

    def __getattr__(self, name: str) -> int | type[Exception]:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.startswith("SSL_") else type(name, (Exception,), {})


def import_without_openssl() -> None:
    """Import what would import OpenSSL, without it; what is there already stays as it is."""
    with _instead("_hashlib", None):
        importlib.import_module("hashlib")
    with _instead("ssl", None):
        importlib.import_module("asyncio")
    with _instead("ssl", _NoTls("ssl")), contextlib.suppress(ImportError):
        importlib.import_module("uvloop")


@contextlib.contextmanager
def _instead(name: str, module: ModuleType | None) -> Iterator[None]:
    """Let `import NAME` find this module meanwhile; None says that there is none."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment] # None is what Python documents
    try:
        yield
    finally:
        del sys.modules[name]
