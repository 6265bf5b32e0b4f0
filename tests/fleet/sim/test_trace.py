"""What a trace may hold, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.fleet.sim.export import trace_of
from edgewright.fleet.sim.trace import (
    MAX_TRACE_BYTES,
    SECONDS_TO_SUCCESS,
    TraceError,
    made_up,
    parse_trace,
    read_trace,
    trace_to_json,
)


def test_a_trace_comes_back_as_it_was() -> None:
    trace = made_up({"pi": 3, "jetson": 2}, sites=2, seed=4)
    assert parse_trace(trace_to_json(trace), where="t") == trace
    assert {device.board for device in trace.devices} == {"pi", "jetson"}


def changed(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(made_up({"pi": 2})) | fields)


def device(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "board": "pi"} | fields


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "truncated"),
        (b"[" * 100_000, "t: "),
        (b"\xff", "t: "),
        (changed(format="edgewright-fleet-trace/2"), "format"),
        (changed(surprise=1), "unknown field `surprise`"),
        (changed(devices=[]), "length >= 1"),
        (changed(devices=[device(), device()]), "a device is named twice"),
        (changed(devices=[device(board="toaster")]), "board 'toaster'; the boards are pi"),
        (changed(devices=[device(online_percentage=101)]), "<= 100"),
        (changed(boards=[{"name": "pi"}, {"name": "pi"}]), "a board is named twice"),
        (changed(boards=[{"name": "pi", "seconds_to_success": [3, 2]}]), "ascend"),
        (changed(boards=[{"name": "pi", "seconds_to_success": [3]}]), "length >= 2"),
        (changed(boards=[{"name": "pi", "latency_us": -1}]), ">= 0"),
        (b" " * (MAX_TRACE_BYTES + 1), "more than"),
    ],
)
def test_a_trace_that_cannot_be_used_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        parse_trace(content, where="t")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nothing\.json: cannot read the trace: No such file"):
        read_trace(tmp_path / "nothing.json")


def listed(name: str, **fields: Any) -> dict[str, Any]:
    models = [{"model": "digits", "version": "3"}, {"model": "other", "version": "9"}]
    return {"device": name, "target": "pi", "site": "hall", "last_seen_s": 990.0, "models": models} | fields


def test_an_exported_trace_holds_no_names_unless_they_are_asked_for() -> None:
    devices = [listed("secret-name"), listed("b", last_seen_s=None, site=""), listed("c", models=[])]
    hidden = trace_of("digits", devices, [], now_s=1000.0, bundle_bytes={"pi": 7}, named=False)
    assert [one.id for one in hidden.devices] == ["device-0", "device-1", "device-2"]
    assert [one.site for one in hidden.devices] == ["site-0", "", "site-0"]
    assert [one.online_percentage for one in hidden.devices] == [100.0, 0.0, 100.0]
    assert [one.version for one in hidden.devices] == ["3", "3", ""]
    assert hidden.boards[0].bundle_bytes == 7
    assert hidden.boards[0].seconds_to_success == SECONDS_TO_SUCCESS, "nothing was seen yet"
    named = trace_of("digits", devices, [], now_s=1000.0, bundle_bytes={}, named=True)
    assert named.devices[0].id == "secret-name"
    assert named.devices[0].site == "hall"


def test_an_exported_trace_learns_how_long_updates_take() -> None:
    orders = [
        {"target": "pi", "phase": "confirmed", "dispatched_s": 100.0, "ended_s": 100.0 + after} for after in range(11)
    ]
    orders.append({"target": "pi", "phase": "failed", "dispatched_s": 100.0, "ended_s": 101.0})
    orders.append({"target": "pi", "phase": None, "dispatched_s": 100.0, "ended_s": None})
    views = [
        {"rollout": {"model": "digits"}, "assignments": orders},
        {"rollout": {"model": "other"}, "assignments": orders * 9},
    ]
    trace = trace_of("digits", [listed("a")], views, now_s=1000.0, bundle_bytes={}, named=False)
    assert trace.boards[0].seconds_to_success == tuple(float(after) for after in range(11))
    assert parse_trace(trace_to_json(trace), where="t") == trace
