"""The models in service, and the way one replaces another without a gap.

A new version is loaded beside the old one, in a thread; it warms up and passes its golden test there; then one
assignment on the event loop switches the name. What the old one still runs is answered by it, then it is closed and its
memory goes back to the system.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

from ..black_box import BlackBox, Lane
from ..control import Load
from ..engines.protocol import LoadOptions, ModelRefused
from .limits import Limits
from .loading import load_bundle
from .memory import release_memory
from .recorder import CounterStore
from .refusal import Refusal, not_now
from .served_model import ServedModel

_log = logging.getLogger(__name__)


class ModelTable:
    """All methods are called on the event loop; changes come one after the other, from one task."""

    def __init__(self, store: CounterStore, limits: Limits, options: LoadOptions, box: BlackBox | None = None) -> None:
        self._store = store
        self._limits = limits
        self._options = options
        self._box = box
        self._lanes: dict[ServedModel, Lane] = {}
        self._models: dict[str, ServedModel] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving: list[ServedModel] = []
        self.loading: str | None = None
        """Name of the model that is being loaded."""
        self.infer_targets: dict[bytes, ServedModel] = {}
        """Request target to model, for the one route that has to be fast."""
        self.loads = 0
        self.failed_loads = 0

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(tuple(self._models.values()))

    def find(self, name: str, version: str | None) -> ServedModel:
        """Return the model that serves a name.

        Raises:
            Refusal: 404, or 503 while it is loaded for the first time.
        """
        model = self._models.get(name)
        if model is None and self.loading == name:
            raise not_now(f"model '{name}' is being loaded")
        if model is None:
            raise Refusal(404, f"unknown model '{name[:200]}'")
        if version not in {None, model.version}:
            raise Refusal(404, f"model '{name}' has no version '{(version or '')[:200]}'; it serves {model.version}")
        return model

    @property
    def starting(self) -> bool:
        """True while a model that has no version in service is being loaded."""
        return self.loading is not None and self.loading not in self._models

    async def load(self, wanted: Load) -> dict[str, float | int | str]:
        """Put a bundle in service; returns what the agent may want to know of it.

        Raises:
            Fault: it cannot be served; what ran before still runs.
        """
        self.loading = wanted.model
        try:
            loaded = await asyncio.to_thread(load_bundle, Path(wanted.directory), self._options)
            manifest = loaded.manifest
            if (manifest.model, manifest.version) != (wanted.model, wanted.version):
                loaded.instance.close()
                raise ModelRefused(
                    f"{wanted.directory} holds {manifest.model} {manifest.version}, "
                    f"expected {wanted.model} {wanted.version}"
                )
            lane = self._box.lane(wanted.model, wanted.version) if self._box else None
            model = ServedModel(
                loaded,
                bundle=wanted.bundle,
                store=self._store,
                limits=self._limits,
                settings=wanted.settings,
                lane=lane,
            )
            if lane is not None:
                self._lanes[model] = lane
        except BaseException:
            self.failed_loads += 1
            raise
        finally:
            self.loading = None
        self.loads += 1
        self._switch(model)
        _log.info("%s %s in service, p50 %.3f ms", model.name, model.version, model.p50_s * 1000)
        if self.loads == 1:  # nobody is served yet whom a pause would disturb, and starting left a megabyte of holes
            await asyncio.to_thread(release_memory)
        mode = "inline" if model.scheduler.inline else "thread"
        return {"p50_ms": loaded.p50_s * 1000, "load_s": loaded.load_s, "mode": mode}

    def unload(self, name: str) -> None:
        """Take a model out of service; what it runs is answered first.

        Raises:
            ModelRefused: no such model.
        """
        if name not in self._models:
            raise ModelRefused(f"model {name!r} is not in service")
        self._retire(self._models.pop(name))
        self._index()

    def tick(self, now_s: float) -> None:
        """Close counter files whose window is over."""
        for model in (*self._models.values(), *self._leaving):
            model.tick(now_s)

    def close(self) -> None:
        """Close all counter files, at the end of the process."""
        for model in (*self._models.values(), *self._leaving):
            model.close()

    def _switch(self, model: ServedModel) -> None:
        old = self._models.get(model.name)
        self._models[model.name] = model
        self._index()
        if old is not None:
            self._retire(old)

    def _index(self) -> None:
        self.infer_targets = {
            target.encode(): model
            for model in self._models.values()
            for target in (
                f"/v2/models/{model.name}/infer",
                f"/v2/models/{model.name}/versions/{model.version}/infer",
            )
        }

    def _retire(self, model: ServedModel) -> None:
        self._leaving.append(model)
        task = asyncio.get_running_loop().create_task(self._end(model))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _end(self, model: ServedModel) -> None:
        await model.retire()
        self._leaving.remove(model)
        lane = self._lanes.pop(model, None)
        if self._box is not None and lane is not None:
            self._box.release(lane)
        del model
        await asyncio.to_thread(release_memory)
