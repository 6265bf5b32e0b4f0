"""All routes in service, and the way one set replaces another without losing a job.

A job belongs to the route objects that it began with: a switch is one assignment, and the old objects live until their
last job is answered. A route whose text has not changed stays the same object, with its counts and its canary's
evidence.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ...routes import Canary, Cascade, Fallback, Route, RoutesError, Shadow, Split, leads_to, parse_routes, targets
from ..pipeline import Deliver, Endpoint, Job, Signature
from ..refusal import Refusal
from .canary import CanaryRoute
from .cascade import CascadeRoute
from .fallback import FallbackRoute
from .hot import HotSwitch
from .legs import Clock, Leg
from .shadow import CountShadow, Later, ShadowRoute
from .split import SplitRoute

Find = Callable[[str, str | None], Endpoint]


class Decider(Protocol):
    """What decides in a route: an endpoint that has something to tell."""

    @property
    def signature(self) -> Signature: ...

    def submit(self, job: Job, deliver: Deliver) -> None: ...

    def statistics(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class _Built:
    settings: Route
    inner: tuple[_Built, ...]
    """The routes that it leads to."""
    legs: tuple[Leg, ...]
    decider: Decider
    endpoint: Endpoint

    def statistics(self) -> dict[str, object]:
        arms = {leg.label: leg.counts.as_dict() for leg in self.legs}
        return {**self.decider.statistics(), "arms": arms}


class RouteTable:
    """Used on the event loop only. `find` leads from a name and a version to a model."""

    def __init__(
        self,
        find: Find,
        *,
        draw: Callable[[], float] = random.random,
        clock: Clock = time.perf_counter_ns,
        later: Later | None = None,
        count_shadow: CountShadow = lambda *_: None,
    ) -> None:
        self._find = find
        self._draw = draw
        self._clock = clock
        self._later = later or _next_turn
        self._count_shadow = count_shadow
        self._built: dict[str, _Built] = {}
        self.hot = False
        """Whether the board is to be kept from getting hotter: routes take their `when_hot`, shadows rest."""

    def get(self, name: str) -> Endpoint | None:
        """The route of a name, None where there is none."""
        built = self._built.get(name)
        return None if built is None else built.endpoint

    def has(self, name: str) -> bool:
        return name in self._built

    def __len__(self) -> int:
        return len(self._built)

    def apply(self, text: str) -> list[str]:
        """Replace all routes by those of a text. Returns the places that are not loaded now, which is no fault.

        Raises:
            RoutesError: the text is wrong, or models that are loaded do not fit each other; nothing has changed.
        """
        routes = parse_routes(text)
        built: dict[str, _Built] = {}
        for name in routes:
            self._build(name, routes, built)
        missing: set[str] = set()
        for name, each in built.items():
            missing.update(_checked(name, each))
        self._built = built
        return sorted(missing)

    def statistics(self) -> dict[str, dict[str, object]]:
        """Of each route: its kind, what its kind counts, and the counts of its arms."""
        return {name: built.statistics() for name, built in self._built.items()}

    def _build(self, name: str, routes: dict[str, Route], built: dict[str, _Built]) -> _Built:
        if name in built:
            return built[name]
        settings = routes[name]
        leading = [leads_to(name, each, routes) for each in targets(settings)]
        inner = [None if each is None else self._build(each, routes, built) for each in leading]
        old = self._built.get(name)
        kept = tuple(each for each in inner if each is not None)
        if old is not None and old.settings == settings and _same(old.inner, kept):
            built[name] = old
        else:
            built[name] = self._made(name, settings, inner, kept)
        return built[name]

    def _made(self, name: str, settings: Route, inner: list[_Built | None], kept: tuple[_Built, ...]) -> _Built:
        by_label: dict[str, Leg] = {}  # an arm may be the place for hot times too, and is counted as one
        for each, route in zip(targets(settings), inner, strict=True):
            find = self._finder(each.model, each.version, route)
            by_label.setdefault(each.label, Leg(each.label, find, self._clock))
        legs = tuple(by_label[each.label] for each in targets(settings))
        has_hot = settings.when_hot is not None
        decider = self._decider(name, settings, legs[:-1] if has_hot else legs)
        endpoint = HotSwitch(decider, legs[-1], self._is_hot) if has_hot else decider
        return _Built(settings, kept, legs, decider, endpoint)

    def _finder(self, model: str, version: str | None, route: _Built | None) -> Callable[[], Endpoint]:
        if route is not None:
            endpoint = route.endpoint
            return lambda: endpoint
        find = self._find
        return lambda: find(model, version)

    def _decider(self, name: str, settings: Route, legs: tuple[Leg, ...]) -> Decider:
        match settings:
            case Split():
                return SplitRoute(name, settings, legs, self._draw)
            case Canary():
                return CanaryRoute(name, settings, legs, self._draw, self._clock)
            case Shadow():
                return ShadowRoute(
                    name,
                    settings,
                    legs,
                    random=self._draw,
                    clock=self._clock,
                    later=self._later,
                    hot=self._is_hot,
                    count=self._count_shadow,
                )
            case Cascade():
                return CascadeRoute(name, settings, legs, self._clock)
            case Fallback():
                return FallbackRoute(name, legs, self._clock)

    def _is_hot(self) -> bool:
        return self.hot


def _same(old: tuple[_Built, ...], new: tuple[_Built, ...]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


def _checked(name: str, built: _Built) -> list[str]:
    """Labels of the places that are not loaded; raises RoutesError where those that are do not fit."""
    try:
        lead = built.decider.signature
    except Refusal:
        return [leg.label for leg in built.legs]
    missing = []
    for leg in built.legs:
        try:
            why = leg.misfit(lead)
        except Refusal:
            missing.append(leg.label)
            continue
        if why is not None:
            raise RoutesError(f"route {name!r}: {leg.label!r} does not fit {built.legs[0].label!r}: {why}")
    if isinstance(built.decider, CascadeRoute | ShadowRoute):
        why = built.decider.problem()
        if why is not None:
            raise RoutesError(f"route {name!r}: {why}")
    return missing


def _next_turn(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)
