"""Progress as the pipeline sees it: named stages, some with a known length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[int], None]


class Stages(Protocol):
    """Shows one stage at a time."""

    @contextmanager
    def stage(self, text: str, total: int | None = None) -> Iterator[Advance]:
        """Lasts as long as the block; the block calls `advance(n)` when n of `total` are done."""
        ...


class SilentStages:
    """Shows nothing."""

    @contextmanager
    def stage(self, text: str, total: int | None = None) -> Iterator[Advance]:
        """Does nothing but run the block."""
        del text, total
        yield lambda _: None


class TerminalStages:
    """A line per stage on stderr; where stderr is no terminal, nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def stage(self, text: str, total: int | None = None) -> Iterator[Advance]:
        """A spinner, and a bar where the length is known."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True) as bar:
            task = bar.add_task(text, total=total)
            yield lambda count: bar.advance(task, count)
