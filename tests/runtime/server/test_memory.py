"""What is freed goes back to the system: looked at in a process of its own, as the settings are of a whole process."""

from __future__ import annotations

import subprocess
import sys

BLOCK_BYTES = 20_000_000
_FREED_BLOCKS = f"""
import sys, threading
from edgewright.runtime.server.memory import resident_bytes, return_large_blocks

if sys.argv[1] == "returned":
    return_large_blocks()

def use_blocks() -> None:
    for _ in range(3):
        bytearray(b"x") * {BLOCK_BYTES}

before_bytes = resident_bytes()
threads = [threading.Thread(target=use_blocks) for _ in range(2)]
for thread in threads:
    thread.start()
    thread.join()
print(resident_bytes() - before_bytes)
"""


def kept_bytes(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _FREED_BLOCKS, how], check=True, capture_output=True).stdout)


def test_a_large_block_goes_back_when_it_is_freed() -> None:
    assert kept_bytes("returned") < BLOCK_BYTES / 4
    assert kept_bytes("as the system does") > BLOCK_BYTES / 2, "the system does it by itself: the setting can go"
