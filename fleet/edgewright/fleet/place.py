"""Where a device stands: its site, its time zone, its labels. People say so; devices do not."""

from __future__ import annotations

import re

import msgspec

from .core.orders.schedule import known_zones
from .faults import FleetError

MAX_TEXT = 200
MAX_LABELS = 32
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What queries, blast-radius limits and maintenance windows go by."""

    site: str = ""
    """Empty: the device counts as a site of its own."""
    time_zone: str = "UTC"
    labels: dict[str, str] = {}


NOWHERE = Place()


class PlaceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a place. None: as it was."""

    site: str | None = None
    time_zone: str | None = None
    labels: dict[str, str | None] = {}
    """By name; None takes a label away."""

    def of(self, before: Place) -> Place:
        """Return the place after the change."""
        labels = {**before.labels, **self.labels}
        return Place(
            site=before.site if self.site is None else self.site,
            time_zone=before.time_zone if self.time_zone is None else self.time_zone,
            labels={name: value for name, value in labels.items() if value is not None},
        )


def check_place(place: Place) -> Place:
    """Return a place that can be used.

    Raises:
        FleetError: no such time zone, too many labels, or a name or text that is too long.
    """
    if len(place.site) > MAX_TEXT or not place.site.isprintable():
        raise FleetError(f"site: expected at most {MAX_TEXT} printable characters, got {place.site[:MAX_TEXT]!r}")
    if place.time_zone not in known_zones():
        raise FleetError(f"time zone {place.time_zone[:64]!r}: expected an IANA name, for example Europe/Berlin or UTC")
    if len(place.labels) > MAX_LABELS:
        raise FleetError(f"labels: {len(place.labels)} of them; a device has at most {MAX_LABELS}")
    for name, value in place.labels.items():
        if _NAME.fullmatch(name) is None or len(value) > MAX_TEXT or not value.isprintable():
            raise FleetError(
                f"label {name[:64]!r}: expected a name of letters, digits, - and _, "
                f"and a value of at most {MAX_TEXT} printable characters"
            )
    return place
