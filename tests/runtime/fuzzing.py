"""Rounds of a fuzz: a moment in every run of the tests, an hour with `EDGEWRIGHT_FUZZ_S=3600`.

Each round has a seed, which is told where it fails; with `EDGEWRIGHT_FUZZ_SEED` that round is the first. CI looks at
the same rounds every time, as it does with hypothesis: a red run can be run again.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence

MOMENT_S = 2.0


def fuzz(check: Callable[[random.Random], None], seconds: float = MOMENT_S) -> None:
    """Check again and again, at least once, until the time is over; the chance of each round is its own."""
    end_s = time.monotonic() + float(os.environ.get("EDGEWRIGHT_FUZZ_S", seconds))
    seed = first = int(os.environ.get("EDGEWRIGHT_FUZZ_SEED", 1 if os.environ.get("CI") else time.time_ns()))
    while seed == first or time.monotonic() < end_s:
        try:
            check(random.Random(seed))
        except BaseException as error:
            error.add_note(f"round {seed - first} of a fuzz; again with EDGEWRIGHT_FUZZ_SEED={seed}")
            raise
        seed += 1
    print(f"{seed - first} rounds")


def mutated(data: bytes, chance: random.Random, words: Sequence[bytes]) -> bytes:
    """A few bytes changed, put in, taken out or doubled."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        at = chance.randrange(len(found) + 1)
        changes: list[Callable[[], bytes]] = [
            lambda at=at: bytes([chance.randrange(256)]) + bytes(found[at + 1 :]),  # type: ignore[misc]
            lambda at=at: chance.choice(words) + bytes(found[at:]),  # type: ignore[misc]
            lambda at=at: bytes(found[at + chance.randrange(1, 40) :]),  # type: ignore[misc]
            lambda at=at: bytes(found[at : at + chance.randrange(1, 200)] + found[at:]),  # type: ignore[misc]
        ]
        found[at:] = chance.choice(changes)()
    return bytes(found)
