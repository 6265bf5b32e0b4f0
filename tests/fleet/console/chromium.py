"""A page in a real Chromium, driven over the DevTools protocol by a pipe: no port, no package."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT_S = 60.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars")


class Tab:
    """One page. Commands go out and answers come in as JSON, each ended by a zero byte."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None

    def open(self, url: str) -> None:
        """Show an address; returns before it is there."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.command("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """Return what a script gives."""
        return self.command("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until a script gives something, and return it."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if found := self.value(script):
                return found
            time.sleep(0.05)
        return pytest.fail(f"{script}: not so after {LIMIT_S:g} s")

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the window, and which colours it prefers."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 640
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        shot = self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def command(self, method: str, **given: Any) -> Any:
        """Have the browser do something."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": given}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            more = os.read(self._receive, 1 << 20)
            assert more, "Chromium ended"
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)


@contextlib.contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Start Chromium and end it."""
    commands, send = os.pipe()
    receive, answers = os.pipe()
    flags = " ".join(FLAGS)
    line = f'exec "$0" {flags} --user-data-dir="$1" 3<&{commands} 4>&{answers}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", line, str(CHROMIUM), str(profile)],
        pass_fds=(commands, answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    try:
        yield Tab(send, receive)
    finally:
        process.kill()
        process.wait()
        os.close(send)
        os.close(receive)
