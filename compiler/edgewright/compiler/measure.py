"""Latency on this machine: candidates take turns in rounds, so that what disturbs one disturbs all of them.

The figures are an input of the build: they go into measurements.json, and a build that replays the file makes the same
bundles. `summarise` and `ratio` are pure; `measure` is the shell.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from .faults import ReplayError
from .lower.compiled import Compiled, digest_of, open_compiled
from .lower.native.tune import Choice
from .lower.onnxruntime import Arithmetic
from .lower.session import Session
from .metrics import Estimate

MAX_ROUNDS = 51
MIN_ROUNDS = 11
TOTAL_TARGET_NS = 10_000_000_000
"""Slow models get fewer rounds: the whole measurement takes about this long at most."""
WARM_UP_CALLS = 5
ROUND_TARGET_NS = 2_000_000
MAX_CALLS_PER_ROUND = 25
MAX_FILE_BYTES = 4 << 20
FORMAT_VERSION = 1


class Measurements(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """measurements.json: the median call of every round, in nanoseconds, by candidate; and the tiles of kernels."""

    format_version: int = FORMAT_VERSION
    rounds_ns: dict[str, tuple[int, ...]] = {}
    tiles: dict[str, Choice] = {}
    """Of native kernels, by the shape of their layer: the fastest tile and its time."""


def key(model: Compiled, board_digest: str, threads: int) -> str:
    """What a figure belongs to: these bytes, on this board, with so many threads."""
    return f"{digest_of(model)} on {board_digest} threads {threads}"


def encode(measurements: Measurements) -> bytes:
    """Canonical bytes."""
    return msgspec.json.format(msgspec.json.encode(measurements, order="sorted"), indent=2) + b"\n"


def read(path: Path) -> Measurements:
    """Reads a measurements file.

    Raises:
        ReplayError: missing, too large, or not one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ReplayError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        measurements = msgspec.json.decode(content, type=Measurements)
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ReplayError(f"{path}: not a measurements file: {error}") from error
    if measurements.format_version != FORMAT_VERSION:
        raise ReplayError(f"{path}: format version {measurements.format_version}, expected {FORMAT_VERSION}")
    bad = [name for name, rounds in measurements.rounds_ns.items() if len(rounds) < 1 or min(rounds) <= 0]
    if bad:
        raise ReplayError(f"{path}: no usable rounds for {bad[0]!r}")
    return measurements


def replayed(recorded: Measurements, keys: Sequence[str], path: Path) -> dict[str, tuple[int, ...]]:
    """The recorded rounds of these candidates.

    Raises:
        ReplayError: the record is of another build or machine.
    """
    missing = [name for name in keys if name not in recorded.rounds_ns]
    if missing:
        raise ReplayError(
            f"{path}: no figures for {missing[0]!r}: it was recorded from another model, data, option, tool version or "
            "machine. Leave --measurements out to measure again"
        )
    return {name: recorded.rounds_ns[name] for name in keys}


def measure(
    models: Mapping[str, Compiled],
    sample: Mapping[str, NDArray[Any]],
    threads: int,
    advance: Callable[[int], None] = lambda _: None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, tuple[int, ...]]:
    """Times one inference of each model, many times in turn; the order rotates from round to round."""
    calls = {
        name: _Caller(open_compiled(model, Arithmetic.ENGINE, threads), sample, clock_ns)
        for name, model in models.items()
    }
    for call in calls.values():
        call.warm_up()
    rounds: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(_rounds(sum(call.round_cost_ns for call in calls.values()))):
        for name in order:
            rounds[name].append(calls[name].round_ns())
        order = order[1:] + order[:1]
        advance(1)
    return {name: tuple(values) for name, values in rounds.items()}


def _rounds(round_cost_ns: int) -> int:
    return max(MIN_ROUNDS, min(MAX_ROUNDS, TOTAL_TARGET_NS // max(1, round_cost_ns)))


class _Caller:
    """One session that is called again and again with one sample."""

    def __init__(self, session: Session, sample: Mapping[str, NDArray[Any]], clock_ns: Callable[[], int]) -> None:
        self._session = session
        self._sample = dict(sample)
        self._clock_ns = clock_ns
        self._calls = 1
        self.round_cost_ns = 0

    def warm_up(self) -> None:
        """Lets the engine allocate, and learns how many calls make a round."""
        typical_ns = max(1, int(statistics.median(self._call_ns() for _ in range(WARM_UP_CALLS))))
        self._calls = min(MAX_CALLS_PER_ROUND, max(1, ROUND_TARGET_NS // typical_ns))
        self.round_cost_ns = typical_ns * self._calls

    def round_ns(self) -> int:
        """The median call of a round."""
        return max(1, int(statistics.median(self._call_ns() for _ in range(self._calls))))

    def _call_ns(self) -> int:
        start = self._clock_ns()
        self._session.run(None, self._sample)
        return self._clock_ns() - start


def summarise(rounds_ns: Sequence[int]) -> Estimate:
    """Median latency in milliseconds with the interval of its order statistics."""
    return median_interval([value / 1e6 for value in rounds_ns])


def ratio(candidate_ns: Sequence[int], baseline_ns: Sequence[int]) -> Estimate:
    """Candidate over baseline, round by round; below 1 is faster.

    The ratio of the medians is made part of the interval: on a machine whose speed changes between rounds the two can
    contradict each other, and then nothing is faster for certain.
    """
    paired = median_interval([new / old for new, old in zip(candidate_ns, baseline_ns, strict=True)])
    unpaired = statistics.median(candidate_ns) / statistics.median(baseline_ns)
    return Estimate(paired.value, min(paired.low, unpaired), max(paired.high, unpaired))


def median_interval(values: Sequence[float]) -> Estimate:
    """Median and a 95 % interval that needs no distribution: the ranks n/2 -+ 0.98 sqrt(n)."""
    ordered = sorted(values)
    count = len(ordered)
    low = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    high = min(count - 1, math.ceil(count / 2 + 0.98 * math.sqrt(count)))
    return Estimate(statistics.median(ordered), ordered[low], ordered[high])
