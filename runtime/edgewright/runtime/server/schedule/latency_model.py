"""How long a batch takes: learnt from the warm-up, followed while the model serves.

Batches of 1, 2, 4, 8 … rows are known by measurement, because engines need not be linear: machine code compiled for 1
and 8 rows runs 8 faster than 7. Sizes between are interpolated until they have run; larger ones follow the line
t = a + b·n through all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_OWN_SHARE = 0.1
"""How much of what a batch was off goes into the time of its size."""
_COMMON_SHARE = 0.02
"""How much of it goes into the times of all sizes: a board that is throttled is slower in all of them."""
_LEAST_RATIO, _MOST_RATIO = 0.5, 2.0
"""An execution that another process interrupted says little of the next one. A lasting change still arrives: a factor
of ten takes some thirty batches."""

_MOST_SIZES = 128

Point = tuple[int, float]


class _Curve:
    """Times by size. A size is added by making a new curve: shells in two threads look at one model."""

    __slots__ = ("place", "sizes", "times_ns")

    def __init__(self, sizes: list[int], times_ns: list[float]) -> None:
        self.sizes = sizes
        self.times_ns = times_ns
        self.place = {rows: place for place, rows in enumerate(sizes)}

    def with_size(self, rows: int, time_ns: float) -> _Curve:
        place = bisect_left(self.sizes, rows)
        sizes = [*self.sizes[:place], rows, *self.sizes[place:]]
        return _Curve(sizes, [*self.times_ns[:place], time_ns, *self.times_ns[place:]])


def bucket_sizes(max_rows: int) -> list[int]:
    """Return 1, 2, 4, 8 … up to `max_rows`, which is one of them."""
    sizes = [1]
    while sizes[-1] * 2 < max_rows:
        sizes.append(sizes[-1] * 2)
    return sizes if sizes[-1] == max_rows else [*sizes, max_rows]


class LatencyModel:
    """Predicts the time of a batch from its rows, in nanoseconds. Used by the threads of all shells, without a lock.

    Attributes:
        single_ns: of one row.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        """Begins with measurements.

        Args:
            points: rows and seconds, one for each size, the smallest for 1 row. Where there is only that one, a batch
                is taken to save nothing.
        """
        ordered = sorted(points)
        self._curve = _Curve([rows for rows, _ in ordered], [max(seconds, 1e-7) * 1e9 for _, seconds in ordered])
        self._scale = 1.0
        self.single_ns = self._curve.times_ns[0]

    @property
    def sizes(self) -> list[int]:
        """Rows that have a time of their own."""
        return self._curve.sizes

    def estimate_ns(self, rows: int) -> float:
        """Return the time that a batch is likely to take."""
        curve = self._curve
        place = curve.place.get(rows)
        if place is not None:
            return curve.times_ns[place] * self._scale
        sizes, times_ns = curve.sizes, curve.times_ns
        right = bisect_left(sizes, rows)
        if right == len(sizes):
            return (times_ns[-1] + self._line()[1] * (rows - sizes[-1])) * self._scale
        share = (rows - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
        return (times_ns[right - 1] * (1 - share) + times_ns[right] * share) * self._scale

    def observe(self, rows: int, took_ns: float) -> float:
        """Learn from a batch that ran; return what had been expected."""
        expected_ns = self.estimate_ns(rows)
        ratio = took_ns / expected_ns
        off = (_LEAST_RATIO if ratio < _LEAST_RATIO else min(ratio, _MOST_RATIO)) - 1
        curve = self._curve
        place = curve.place.get(rows)
        if place is not None:
            curve.times_ns[place] *= 1 + _OWN_SHARE * off
        elif rows < curve.sizes[-1] and len(curve.sizes) < _MOST_SIZES:
            self._curve = curve.with_size(rows, expected_ns / self._scale * (1 + off))
        self._scale *= 1 + _COMMON_SHARE * off
        self.single_ns = curve.times_ns[0] * self._scale
        return expected_ns

    def line(self) -> tuple[float, float]:
        """Return a and b of t = a + b·n, neither negative: least squares of the relative error."""
        fixed_ns, row_ns = self._line()
        return fixed_ns * self._scale, row_ns * self._scale

    def _line(self) -> tuple[float, float]:
        sizes, times_ns = self._curve.sizes, self._curve.times_ns
        if len(sizes) == 1:
            return 0.0, times_ns[0] / sizes[0]
        # t/n = a·(1/n) + b·1, each divided by t/n: errors count relative to the time.
        pairs = [(1 / time_ns, rows / time_ns) for rows, time_ns in zip(sizes, times_ns, strict=True)]
        uu, uv, vv = (sum(pair[i] * pair[j] for pair in pairs) for i, j in ((0, 0), (0, 1), (1, 1)))
        u, v = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        determinant = uu * vv - uv * uv
        if determinant <= 1e-12 * uu * vv:
            return 0.0, v / vv
        fixed_ns, row_ns = (u * vv - v * uv) / determinant, (v * uu - u * uv) / determinant
        if fixed_ns < 0:
            return 0.0, v / vv
        return (fixed_ns, row_ns) if row_ns >= 0 else (u / uu, 0.0)
