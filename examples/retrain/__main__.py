"""`python -m examples.retrain`: drift, alert, retraining, rollout, drift gone, narrated. Exit 0, or 1 with why not."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from examples.demo.processes import Stage, StoryError
from examples.demo.world import World

from .loop import Loop

INTERRUPTED = 130


def main() -> int:
    """Tell the story; return the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="edgewright-retrain-"))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "torch")  # PyTorch would leave a folder in the temporary one
    try:
        with Stage(folder) as stage:
            Loop(console, folder, World.build(stage, folder)).tell()
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        console.print("\nstopped; every process of the example is gone")
        return INTERRUPTED
    except StoryError as error:
        console.print(f"\n[red]The example failed:[/red] {escape(str(error))}\nLogs: {folder / 'logs'}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
