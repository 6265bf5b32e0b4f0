"""A trace: the shape of a fleet, without anything secret (docs/formats/trace.md). What a rehearsal is run on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgewright.targets.faults import UserFault

FORMAT: Literal["edgewright-fleet-trace/1"] = "edgewright-fleet-trace/1"
MAX_TRACE_BYTES = 64 * 1024 * 1024
MAX_DEVICES = 200_000
MAX_BOARDS = 256
MAX_QUANTILES = 101
DAY_S = 86_400.0

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=366 * DAY_S)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Quantiles = Annotated[tuple[Duration, ...], msgspec.Meta(min_length=2, max_length=MAX_QUANTILES)]

SECONDS_TO_SUCCESS: tuple[float, ...] = (30, 60, 80, 100, 120, 150, 180, 240, 360, 600, 1500)
SECONDS_TO_FAILURE: tuple[float, ...] = (5, 10, 15, 20, 30, 45, 60, 90, 120, 240, 600)
"""Where the fleet has seen too few updates to say: minutes, with a long tail."""


class TraceError(UserFault):
    """The trace cannot be used; the message says where, what was expected and what came."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, and unknown keys are refused."""


class TracedBoard(_Strict, frozen=True, kw_only=True):
    """What the devices of one target have in common."""

    name: Name
    bundle_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)] = 4_000_000
    """Size of a bundle of the release."""
    seconds_to_success: Quantiles = SECONDS_TO_SUCCESS
    """From the order to the confirmation: quantiles at even steps from 0 to 100 %, ascending."""
    seconds_to_failure: Quantiles = SECONDS_TO_FAILURE
    requests_per_hour: Amount = 600.0
    error_percentage: Percentage = 0.1
    latency_us: Amount = 5000.0
    energy_uj: Amount = 0.0
    """Mean per request; 0 where it is not measured."""
    accuracy_percentage: Percentage = 90.0
    """Expected from confidence."""
    spread_percentage: Percentage = 5.0
    """How far devices lie apart: the standard deviation of latency in percent, of accuracy in points."""


class TracedDevice(_Strict, frozen=True, kw_only=True):
    """One device."""

    id: Name
    board: Name
    site: Text = ""
    time_zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"
    labels: Annotated[dict[Text, Text], msgspec.Meta(max_length=32)] = {}
    version: Text = "1"
    """What it runs of the model; empty if nothing."""
    online_percentage: Percentage = 100.0
    """Share of the time in which it can be reached; 0: not for weeks."""


class Trace(_Strict, frozen=True, kw_only=True):
    """A fleet at one moment."""

    format: Literal["edgewright-fleet-trace/1"] = FORMAT
    model: Name
    boards: Annotated[tuple[TracedBoard, ...], msgspec.Meta(min_length=1, max_length=MAX_BOARDS)]
    devices: Annotated[tuple[TracedDevice, ...], msgspec.Meta(min_length=1, max_length=MAX_DEVICES)]


def parse_trace(content: bytes, *, where: str) -> Trace:
    """Return the trace in some JSON; `where` names it in errors.

    Raises:
        TraceError: too large, not JSON, unknown key, wrong type or range, or a board or device named twice.
    """
    if len(content) > MAX_TRACE_BYTES:
        raise TraceError(f"{where}: a trace of more than {MAX_TRACE_BYTES} bytes; the limit keeps a rehearsal short")
    try:
        trace = msgspec.json.decode(content, type=Trace)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{where}: {error}; docs/formats/trace.md says what a trace holds") from error
    boards = {board.name for board in trace.boards}
    if len(boards) < len(trace.boards):
        raise TraceError(f"{where}: a board is named twice")
    if len({device.id for device in trace.devices}) < len(trace.devices):
        raise TraceError(f"{where}: a device is named twice")
    for device in trace.devices:
        if device.board not in boards:
            known = ", ".join(sorted(boards)[:10])
            raise TraceError(f"{where}: device {device.id!r} has board {device.board!r}; the boards are {known}")
    for board in trace.boards:
        for key in ("seconds_to_success", "seconds_to_failure"):
            if any(one > next_one for one, next_one in pairwise(getattr(board, key))):
                raise TraceError(f"{where}: board {board.name!r}: {key} are quantiles: they ascend")
    return trace


def read_trace(path: Path) -> Trace:
    """Return the trace in a file.

    Raises:
        TraceError: the file cannot be read or does not hold a trace.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TRACE_BYTES + 1)
    except OSError as error:
        raise TraceError(f"{path}: cannot read the trace: {error.strerror or error}") from error
    return parse_trace(content, where=str(path))


def trace_to_json(trace: Trace) -> bytes:
    """Return the trace as JSON with every key spelled out."""
    return msgspec.json.encode(trace)


def made_up(boards: Mapping[str, int], *, sites: int = 0, seed: int = 0, model: str = "model") -> Trace:
    """Return the trace of a fleet that nobody has: so many devices of each board, spread over sites at random."""
    chance = random.Random(seed)  # noqa: S311  (a simulation is to be repeatable)
    devices = [
        TracedDevice(
            id=f"{board}-{number:06d}",
            board=board,
            site=f"site-{chance.randrange(sites):04d}" if sites else "",
        )
        for board, count in boards.items()
        for number in range(count)
    ]
    return Trace(model=model, boards=tuple(TracedBoard(name=board) for board in boards), devices=tuple(devices))
