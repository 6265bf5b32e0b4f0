"""The server's process maps no OpenSSL, and whoever wants it later can have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgewright.runtime.control import Done
from edgewright.runtime.server.child import ServerChild, listen_tcp
from tests.runtime.small_bundle import SmallBundle

SCRIPT = """
import sys
from pathlib import Path
from edgewright.runtime.server.lean_imports import import_without_openssl
import_without_openssl()
import asyncio, hashlib, uvloop
assert not {"ssl", "_ssl", "_hashlib"} & set(sys.modules), sys.modules
assert "libcrypto" not in Path("/proc/self/maps").read_text()
assert hashlib.sha256(b"abc").hexdigest().startswith("ba7816bf")
import ssl
assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
import _hashlib
"""


def test_openssl_is_not_loaded_and_can_be_later() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)


def test_what_is_imported_already_stays() -> None:
    subprocess.run([sys.executable, "-c", f"import ssl\nkept = ssl\n{LATE}"], check=True, timeout=60)


LATE = """
import sys
from edgewright.runtime.server.lean_imports import import_without_openssl
import_without_openssl()
assert sys.modules["ssl"] is kept
"""


def test_the_server_serves_without_it(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    with listen_tcp() as listening, ServerChild([listening], tmp_path) as child:
        reply = child.load(digits_like_bundle.directory, "digits", "1", digits_like_bundle.digest)
        assert isinstance(reply, Done)
        assert "libssl" not in Path(f"/proc/{child.process.pid}/maps").read_text()
        assert child.drain() == 0


def test_a_command_line_that_is_not_understood_is_a_sentence() -> None:
    command = [sys.executable, "-m", "edgewright.runtime.server"]
    for words, complaint in (
        (["--boot"], "usage:"),
        (["--control-fd", "3", "{}"], "missing required field `listeners`"),
    ):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert complaint in done.stderr
