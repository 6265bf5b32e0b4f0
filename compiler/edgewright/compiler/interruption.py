"""What commands that write files do when they are stopped: they clean up, then say so."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

INTERRUPTED = 130
"""Exit code, as shells have it: 128 and the number of SIGINT."""


@contextmanager
def cleaned_up() -> Iterator[None]:
    """Within it, SIGTERM ends the command as Ctrl-C does: every `with` block is left, then the process."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("edgewright: interrupted; no half-written file is left", err=True)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)
