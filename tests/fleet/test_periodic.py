"""A loop that no single failure ends."""

from __future__ import annotations

import threading

from sqlalchemy.exc import OperationalError

from edgewright.fleet.periodic import Periodic


def test_it_goes_on_after_whatever_a_step_raises_and_ends_when_told() -> None:
    failures = [OperationalError("INSERT", {}, Exception("disk full")), ValueError("a bug")]
    well = threading.Event()

    def step() -> None:
        if failures:
            raise failures.pop()
        well.set()

    loop = Periodic("test", step, period_s=0.001)
    loop.start()
    assert well.wait(60)
    assert not loop.is_stopping
    loop.stop()
    assert loop.is_stopping
    well.clear()
    assert not well.wait(0.05), "nothing comes after the end"
