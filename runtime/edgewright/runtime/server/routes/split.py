"""Split: jobs are dealt out among arms, by chance or by key."""

from __future__ import annotations

from collections.abc import Callable

from ...routes import Split
from ..pipeline import Deliver, Job, Signature
from .legs import Lead, Leg
from .sticky import by_draw, by_key, sticky_key


class SplitRoute:
    """An `Endpoint`. An arm that cannot take its job refuses it: the shares stay what they were declared to be."""

    def __init__(self, name: str, settings: Split, legs: tuple[Leg, ...], random: Callable[[], float]) -> None:
        self._name = name
        self._legs = legs
        self._lead = Lead(name, legs)
        self._weights = [arm.weight for arm in settings.arms]
        self._labels = [leg.label for leg in legs]
        self._by_key = settings.by == "key"
        self._random = random

    @property
    def signature(self) -> Signature:
        return self._lead.signature

    def submit(self, job: Job, deliver: Deliver) -> None:
        leg = self._legs[self._chosen(job)]
        leg.submit(leg.opened(self._lead.signature), job, deliver)

    def statistics(self) -> dict[str, object]:
        return {"kind": "split", "weights": dict(zip(self._labels, self._weights, strict=True))}

    def _chosen(self, job: Job) -> int:
        key = sticky_key(job, self._by_key)
        if not key:
            return by_draw(self._weights, self._random())
        return by_key(self._weights, self._labels, self._name, key)
