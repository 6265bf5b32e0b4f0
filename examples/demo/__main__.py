"""`make demo`: the main job on this machine, narrated. Exit 0 with a table, or 1 with what went wrong."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from .processes import Stage, StoryError
from .story import Story
from .world import World

INTERRUPTED = 130


def main() -> int:
    """Tell the story; return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo DEMO_ARGS=…", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end, until Ctrl-C")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="edgewright-demo-"))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "torch")  # PyTorch would leave a folder in the temporary one
    told = False
    try:
        with Stage(folder) as stage:
            world = World.build(stage, folder)
            Story(console, stage, folder, world).tell()
            told = True
            console.print(f"\nConsole: {world.console_link()}")
            if options.keep:
                console.print("Everything is still running. Ctrl-C stops it.")
                signal.pause()
    except KeyboardInterrupt:
        console.print("\nstopped; every process of the demo is gone")
        shutil.rmtree(folder, ignore_errors=True)
        return 0 if told else INTERRUPTED
    except StoryError as error:
        console.print(f"\n[red]The demo failed:[/red] {escape(str(error))}\nLogs: {folder / 'logs'}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    console.print("Everything is stopped; `make demo DEMO_ARGS=--keep` leaves it running to look at.")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
