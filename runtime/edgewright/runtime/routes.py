"""Routes as text: what stands between a name that clients ask and the models that answer.

Pure data without numpy or clock: the agent checks a text with `parse_routes` before it keeps it, the server builds its
routes of the same structs. `docs/guides/routes.md` is the description for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgewright.bundle.manifest import Name
from edgewright.targets.faults import UserFault

from .bounded_toml import BadToml, read_toml

MAX_TEXT_BYTES = 64 * 1024
MAX_ROUTES = 64
MAX_DEPTH = 4
"""Routes that lead to routes: so many in a row."""

Share = Annotated[float, Meta(gt=0, le=0.5)]
Weight = Annotated[float, Meta(ge=0, le=1e6)]


class RoutesError(UserFault):
    """The routes are wrong; the message says which, what was expected and what came."""


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only, and unknown keys are refused."""


class Target(_Settings, frozen=True, kw_only=True):
    """Where a route leads: a route or a model by name; with a version always the model's."""

    model: Name
    version: Name | None = None

    @property
    def label(self) -> str:
        """What it is called in statistics and answers."""
        return self.model if self.version is None else f"{self.model}@{self.version}"


Place = Name | Target
"""A name, or a table with `model` and `version`."""


class Arm(_Settings, frozen=True, kw_only=True):
    """One arm of a split, with its part of the jobs: its weight over the sum of all weights."""

    model: Name
    version: Name | None = None
    weight: Weight = 1.0


class Split(_Settings, frozen=True, kw_only=True, tag_field="kind", tag="split"):
    """Jobs are dealt out among arms."""

    arms: Annotated[tuple[Arm, ...], Meta(min_length=1, max_length=16)]
    by: Literal["weight", "key"] = "weight"
    """`weight`: each job by chance. `key`: jobs of one key go to one arm; a job without a key by chance."""
    when_hot: Place | None = None


class Canary(_Settings, frozen=True, kw_only=True, tag_field="kind", tag="canary"):
    """A small part goes to a newcomer, until that is seen to be worse."""

    primary: Place
    canary: Place
    fraction: Share = 0.05
    max_slowdown: Annotated[float, Meta(ge=1, le=100)] = 1.5
    """An answer is slow when it takes longer than so many times the primary's median."""
    false_alarm: Annotated[float, Meta(ge=1e-9, le=0.1)] = 0.001
    """Chance that a canary that is no worse is given up, in each window of errors or slow answers."""
    when_hot: Place | None = None


class Shadow(_Settings, frozen=True, kw_only=True, tag_field="kind", tag="shadow"):
    """The primary answers; some jobs are run by another model too, and only how the two agree is kept."""

    primary: Place
    shadow: Place
    fraction: Annotated[float, Meta(gt=0, le=1)] = 0.1
    max_busy_share: Annotated[float, Meta(gt=0, le=1)] = 0.05
    """Part of the time that the shadow may compute: what it costs in energy and in heat."""
    max_in_flight: Annotated[int, Meta(ge=1, le=16)] = 1
    output: str | None = None
    """The output that is compared; None is the first."""
    compare: Literal["auto", "class", "values"] = "auto"
    """`class`: the greatest along the last axis. `auto`: that, where the last axis has two values or more."""
    tolerance: Annotated[float, Meta(ge=0, le=1e9)] = 0.01
    """`values`: the greatest difference, relative to the greatest magnitude of the primary's, that still agrees."""
    when_hot: Place | None = None


class Cascade(_Settings, frozen=True, kw_only=True, tag_field="kind", tag="cascade"):
    """A small model answers where it is sure; the rows that it is not sure of go on to the next."""

    stages: Annotated[tuple[Place, ...], Meta(min_length=2, max_length=4)]
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Confidence from which a stage's answer stands: the greatest probability of a row."""
    output: str | None = None
    """The output that is looked at; None is the first."""
    softmax: bool | None = None
    """Whether the output needs a softmax to be probabilities; None finds out from the values."""
    when_hot: Place | None = None


class Fallback(_Settings, frozen=True, kw_only=True, tag_field="kind", tag="fallback"):
    """The first that can answer does."""

    chain: Annotated[tuple[Place, ...], Meta(min_length=2, max_length=8)]
    when_hot: Place | None = None


Route = Split | Canary | Shadow | Cascade | Fallback


class _File(_Settings, frozen=True, kw_only=True):
    routes: dict[Name, dict[str, Any]] = {}


def target(place: Place) -> Target:
    """A place, as a table."""
    return Target(model=place) if isinstance(place, str) else place


def targets(route: Route) -> tuple[Target, ...]:
    """All places that a route may lead to, the one whose tensors are the route's first."""
    places: tuple[Place, ...]
    match route:
        case Split(arms=arms):
            places = tuple(Target(model=arm.model, version=arm.version) for arm in arms)
        case Canary(primary=primary, canary=second) | Shadow(primary=primary, shadow=second):
            places = (primary, second)
        case Cascade(stages=places) | Fallback(chain=places):
            pass
    hot = () if route.when_hot is None else (route.when_hot,)
    return tuple(map(target, (*places, *hot)))


def leads_to(name: str, wanted: Target, routes: Mapping[str, Route]) -> str | None:
    """The route that a target of route `name` means; None where it means a model.

    A route that names itself means the model that it shadows.
    """
    is_route = wanted.version is None and wanted.model != name and wanted.model in routes
    return wanted.model if is_route else None


def parse_routes(text: str) -> dict[str, Route]:
    """Return the routes in a text, by name; an empty text has none. Models need not exist yet.

    Raises:
        RoutesError: not TOML, an unknown key, a value out of range, a circle, or too much of something.
    """
    routes = _read(text)
    if len(routes) > MAX_ROUTES:
        raise RoutesError(f"there are {len(routes)} routes; at most {MAX_ROUTES} are served")
    for name, route in routes.items():
        _check_arms(name, route)
    leading: dict[str, tuple[str, ...]] = {}
    for name in routes:
        _longest_way((name,), routes, leading)
    return routes


def _read(text: str) -> dict[str, Route]:
    size = len(text.encode(errors="replace"))
    if size > MAX_TEXT_BYTES:
        raise RoutesError(f"the routes have {size} bytes; they have at most {MAX_TEXT_BYTES}")
    try:
        content = read_toml(text)
        tables = msgspec.convert(content, _File).routes
    except BadToml as error:
        raise RoutesError(f"the routes are not TOML: {error}") from error
    except msgspec.ValidationError as error:
        wanted = "expected tables such as [routes.NAME], and names of letters, digits and . _ + -"
        raise RoutesError(f"routes: {error}; {wanted}") from error
    return {name: _route(name, table) for name, table in tables.items()}


def _route(name: str, table: dict[str, Any]) -> Route:
    try:
        route: Route = msgspec.convert(table, Route)
        return route
    except msgspec.ValidationError as error:
        kinds = "; a route has a kind: split, canary, shadow, cascade or fallback" if "kind`" in str(error) else ""
        raise RoutesError(f"route {name!r}: {error}{kinds}") from error


def _check_arms(name: str, route: Route) -> None:
    labels = [each.label for each in targets(route)[: -1 if route.when_hot is not None else None]]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise RoutesError(f"route {name!r} leads to {', '.join(sorted(twice))} twice; name each place once")
    if isinstance(route, Split) and sum(arm.weight for arm in route.arms) <= 0:
        raise RoutesError(f"route {name!r}: all weights are 0; at least one arm needs a weight")


def _longest_way(
    path: tuple[str, ...], routes: Mapping[str, Route], known: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The longest way from the end of a path through routes; each route is looked at once, however many lead to it."""
    name = path[-1]
    if name in known:
        return known[name]
    longest: tuple[str, ...] = ()
    for each in targets(routes[name]):
        following = leads_to(name, each, routes)
        if following is None:
            continue
        if following in path:
            raise RoutesError(f"routes go round in a circle: {' → '.join((*path, following))}")
        longest = max(longest, _longest_way((*path, following), routes, known), key=len)
    way = known[name] = (name, *longest)
    if len(way) > MAX_DEPTH:
        raise RoutesError(f"routes are nested {len(way)} deep ({' → '.join(way)}); at most {MAX_DEPTH}")
    return way
