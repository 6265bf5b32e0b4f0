"""What a virtual device counts of its traffic: cumulative windows, as the runtime's recorder makes them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from edgewright.runtime.telemetry.records import LATENCY_EDGES_US, WindowRecord

from .behaviour import Behaviour, Installed

LATENCY_US, LATENCY_BIN = 500, 10
_Key = tuple[str, str, int]
"""Incarnation, bundle, begin of the window."""


class Meter:
    """Counts one device's traffic; what it returns goes into the spool."""

    def __init__(self, *, window_s: int, chance: random.Random) -> None:
        self._window_s = window_s
        self._random = chance
        self._windows: dict[_Key, WindowRecord] = {}
        self._counting: _Key | None = None
        self._closed: set[_Key] = set()
        self.counted: dict[str, Counter[str]] = {}
        """By bundle, what the device counted itself: the fleet's sums must agree, field by field."""

    def lose_power(self) -> list[WindowRecord]:
        """Close the window that is open as the next start finds it, and count anew."""
        closed = [] if self._counting is None else [self._close(self._counting, crashes=1)]
        self._counting = None
        return closed

    def serve(
        self, behaviour: Behaviour, running: Installed, *, model: str, boot: str, incarnation: str, now_s: float
    ) -> list[WindowRecord]:
        """Count one step of traffic; returns the window before, where it is over, and this one."""
        start_s = int(now_s) // self._window_s * self._window_s
        key, closed = self._turn_to(incarnation, running.bundle, start_s)
        window = self._windows.get(key) or self._empty(behaviour, running, key, model=model, boot=boot)
        window = self._with_step(window, behaviour)
        self._windows[key] = window
        return [*closed, window]

    def _turn_to(self, incarnation: str, bundle: str, start_s: int) -> tuple[_Key, list[WindowRecord]]:
        """Return the window that is counted in; the one before is closed, and stays so when the clock is set back."""
        name, turn = incarnation, 1
        while (name, bundle, start_s) in self._closed:
            turn += 1
            name = f"{incarnation}.{turn}"
        key = (name, bundle, start_s)
        closed = []
        if self._counting is not None and self._counting != key:
            closed = [self._close(self._counting)]
        self._counting = key
        return key, closed

    def _with_step(self, window: WindowRecord, behaviour: Behaviour) -> WindowRecord:
        count, draw = behaviour.requests_per_step, self._random.random
        failures = sum(draw() < behaviour.failure_rate for _ in range(count))
        labelled, correct = self._labels(window, behaviour)
        wrong = behaviour.shadow_rows // 2
        after = msgspec.structs.replace(
            window,
            seq=window.seq + 1,
            requests=window.requests + count,
            rows=window.rows + count,
            failures=window.failures + failures,
            latency_us_sum=window.latency_us_sum + LATENCY_US * count,
            latency=_add(window.latency, {LATENCY_BIN: count}),
            histograms=tuple(
                _add(counts, self._draw(weights, count))
                for counts, weights in zip(window.histograms, behaviour.weights, strict=True)
            ),
            energy_uj_sum=window.energy_uj_sum + behaviour.energy_uj * count,
            energy_requests=window.energy_requests + (count if behaviour.energy_uj else 0),
            shadow_rows=window.shadow_rows + behaviour.shadow_rows,
            shadow_disagreements=window.shadow_disagreements + wrong,
            labelled=labelled,
            labelled_correct=correct,
        )
        self._note(window, after)
        return after

    def _labels(self, window: WindowRecord, behaviour: Behaviour) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return labelled samples and those that were answered right, by bin of confidence, after one more step."""
        draw = self._random.random
        samples = range(behaviour.requests_per_step if behaviour.label_rate else 0)
        told = sum(draw() < behaviour.label_rate for _ in samples)
        if not told:
            return window.labelled, window.labelled_correct
        places = self._draw(behaviour.confidence, told)
        right = {place: sum(draw() < behaviour.accuracy for _ in range(count)) for place, count in places.items()}
        none = (0,) * len(behaviour.confidence)
        return _add(window.labelled or none, places), _add(window.labelled_correct or none, right)

    def _note(self, before: WindowRecord, after: WindowRecord) -> None:
        own = self.counted.setdefault(after.bundle, Counter())
        own.update(sums_of(after))
        own.subtract(sums_of(before))

    def _close(self, key: _Key, *, crashes: int = 0) -> WindowRecord:
        window = self._windows.pop(key)
        self._closed.add(key)
        closed = msgspec.structs.replace(window, seq=window.seq + 1, closed=True, crashes=crashes)
        self._note(window, closed)
        return closed

    def _empty(self, behaviour: Behaviour, running: Installed, key: _Key, *, model: str, boot: str) -> WindowRecord:
        return WindowRecord(
            model=model,
            version=running.version,
            bundle=running.bundle,
            reference="",
            window_start_s=key[2],
            window_s=self._window_s,
            boot=boot,
            incarnation=key[0],
            seq=0,
            closed=False,
            requests=0,
            failures=0,
            rows=0,
            latency_us_sum=0,
            latency=(0,) * (len(LATENCY_EDGES_US) + 1),
            histograms=tuple((0,) * len(weights) for weights in behaviour.weights),
        )

    def _draw(self, weights: Sequence[float], count: int) -> dict[int, int]:
        return dict(Counter(self._random.choices(range(len(weights)), weights, k=count)))


SUMMED = (
    "requests",
    "failures",
    "rows",
    "latency_us_sum",
    "crashes",
    "energy_uj_sum",
    "energy_requests",
    "shadow_rows",
    "shadow_disagreements",
)
BINNED = ("latency", "labelled", "labelled_correct")


def sums_of(counts: msgspec.Struct) -> dict[str, int]:
    """Return everything that is added up, of one record or of a sum of them, by name; bins by their number."""
    found = {name: getattr(counts, name) for name in SUMMED}
    rows = {name: getattr(counts, name) for name in BINNED}
    rows |= {f"histogram {number}": row for number, row in enumerate(counts.histograms)}  # type: ignore[attr-defined]
    found |= {f"{name} [{place}]": count for name, row in rows.items() for place, count in enumerate(row) if count}
    return found


def _add(counts: Sequence[int], more: dict[int, int]) -> tuple[int, ...]:
    return tuple(count + more.get(place, 0) for place, count in enumerate(counts))
