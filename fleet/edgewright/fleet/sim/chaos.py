"""A whole life of a small fleet drawn from one seed, with everything that can go wrong going wrong.

    python -m edgewright.fleet.sim.chaos 17        the life of seed 17 again, with what happened

Real ingest, store, reconcilers (two) and wire messages; virtual devices, network and time. Messages are lost, doubled,
delayed past each other, some for weeks. The server is killed before, within and after commits. A second reconciler or
an operator acts between the first one's read and its write. Clocks of devices are wrong and jump, devices lose power
and stay away. Operators press whatever button there is (operators.py): approve, stop, lift, move devices, experiment.
`history.py`, `promises.py` and `log.py` say what must hold all the same.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from .device import VirtualDevice
from .life import Life
from .world import DeviceKind, World

MEMORY = Path("/dev/shm")  # noqa: S108  (a directory of a run's own is made in it)


class FailedLife(Exception):
    """A promise was broken; the message ends with the command that shows it again."""


def live(
    seed: int, *, device_kind: DeviceKind = VirtualDevice, say: Callable[[str], None] = lambda _text: None
) -> Life:
    """Run one life.

    Raises:
        FailedLife: a promise was broken, or the code under test failed.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="edgewright-life-") as folder:
        world = World(seed, Path(folder), device_kind, say)
        try:
            return world.live()
        except Exception as broken:  # whatever fails, the seed is what shows it again
            raise FailedLife(
                f"seed {seed}, event {world.events.run_so_far}: {type(broken).__name__}: {broken}\n"
                f"again: python -m edgewright.fleet.sim.chaos {seed}"
            ) from broken
        finally:
            world.close()


def main() -> None:
    """Show the lives of some seeds; exit 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=int, nargs="+")
    for seed in parser.parse_args().seeds:
        try:
            print(live(seed, say=print))
        except FailedLife as failed:
            print(failed)
            raise SystemExit(1) from failed


if __name__ == "__main__":
    main()
