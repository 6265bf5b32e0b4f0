"""Results take their names at the very end and at once, so that nobody sees a half-written file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgewright.bundle.files import sync_directory

REPORT = "report.json"
MEASUREMENTS = "measurements.json"


def take_names(stage: Path, out: Path, names: Sequence[str]) -> None:
    """Moves complete files from the staging folder to the results, in this order: name the report last.

    Raises:
        OSError: the disk refuses.
    """
    for name in names:
        with (stage / name).open("rb") as file:
            os.fsync(file.fileno())
        (stage / name).replace(out / name)
    sync_directory(out)
