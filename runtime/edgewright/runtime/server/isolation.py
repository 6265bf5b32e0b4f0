"""Where a model runs: in this process, or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..control import Load
from ..engines.protocol import LoadOptions
from .assembly import Assembly
from .loading import LoadedModel, load_bundle
from .statistics import ModelStatistics


@runtime_checkable
class Supervised(Protocol):
    """An instance in a process that is started again when it ends."""

    restarts: int

    def watch(self, watch: object) -> None:
        """Tell of losses and returns; see `worker.instance.Watch`."""


def load_model(wanted: Load, options: LoadOptions) -> LoadedModel:
    """Load a bundle where its settings ask for; blocks.

    Raises:
        Fault: see `loading.load_bundle`.
    """
    settings, directory = wanted.settings, Path(wanted.directory)
    options = replace(options, threads=settings.threads or options.threads)
    if settings.isolation == "shared":
        return load_bundle(directory, options, settings.max_batch_rows)
    # Imported where it is asked for: subprocess and mmap are a megabyte that most servers never need.
    from .worker.loading import load_in_worker
    from .worker.process import Launch

    return load_in_worker(Launch(directory, options, settings.max_batch_rows), settings.execution_timeout_ms / 1000)


def follow_worker(loaded: LoadedModel, assembly: Assembly, statistics: ModelStatistics) -> None:
    """Have the breaker and the statistics follow the model's process, if it has one."""
    instance = loaded.instance
    if not isinstance(instance, Supervised):
        return
    loop = asyncio.get_running_loop()

    def moved(back: bool, reason: str) -> None:
        statistics.worker_restarts = instance.restarts
        if back:
            assembly.endpoint.back()
        else:
            assembly.endpoint.lost(reason)

    def watch(back: bool, reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the server
            loop.call_soon_threadsafe(moved, back, reason)

    instance.watch(watch)
