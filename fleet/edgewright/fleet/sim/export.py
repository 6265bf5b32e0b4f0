"""The trace of a running fleet, from what its API tells: no secrets, and names only where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .trace import SECONDS_TO_FAILURE, SECONDS_TO_SUCCESS, Trace, TracedBoard, TracedDevice

DEFAULT_BUNDLE_BYTES = 4_000_000
MIN_SAMPLES = 10
"""Fewer results of a board say too little about its times: the defaults stand for them."""
QUANTILES = 10
DAY_S = 86_400.0
OFFLINE_AFTER_S = 900.0
FAILED = frozenset({"failed", "rolled_back", "refused"})


def trace_of(
    model: str,
    devices: Sequence[Mapping[str, Any]],
    rollouts: Sequence[Mapping[str, Any]],
    *,
    now_s: float,
    bundle_bytes: Mapping[str, int],
    named: bool,
) -> Trace:
    """Return a trace.

    Args:
        model: whose version each device runs, and whose rollouts tell how long updates take.
        devices: as `GET /v1/devices` lists them.
        rollouts: as `GET /v1/rollouts/{id}` shows them.
        now_s: the server's time.
        bundle_bytes: size of a bundle, by board; others get 4 MB.
        named: keep names of devices and sites; else they are numbered.
    """
    good, bad = _times(model, rollouts)
    boards = sorted({str(device["target"]) for device in devices})
    sites = {site: f"site-{number}" for number, site in enumerate(sorted({_site(device) for device in devices} - {""}))}
    return Trace(
        model=model,
        boards=tuple(
            TracedBoard(
                name=board,
                bundle_bytes=bundle_bytes.get(board, DEFAULT_BUNDLE_BYTES),
                seconds_to_success=_quantiles(good.get(board, []), SECONDS_TO_SUCCESS),
                seconds_to_failure=_quantiles(bad.get(board, []), SECONDS_TO_FAILURE),
            )
            for board in boards
        ),
        devices=tuple(
            TracedDevice(
                id=str(device["device"]) if named else f"device-{number}",
                board=str(device["target"]),
                site=_site(device) if named else sites.get(_site(device), ""),
                time_zone=str(device.get("time_zone") or "UTC"),
                labels=dict(device.get("labels") or {}) if named else {},
                version=_version(device, model),
                online_percentage=_online(device, now_s),
            )
            for number, device in enumerate(devices)
        ),
    )


def _site(device: Mapping[str, Any]) -> str:
    return str(device.get("site") or "")


def _version(device: Mapping[str, Any], model: str) -> str:
    return next((str(one["version"]) for one in device["models"] if one["model"] == model), "")


def _online(device: Mapping[str, Any], now_s: float) -> float:
    """Tell from the last sign of life: a moment shows whether a device is there, not how often."""
    seen_s = device["last_seen_s"]
    return 100.0 if seen_s is not None and now_s - seen_s <= OFFLINE_AFTER_S else 0.0


def _times(model: str, rollouts: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return how long orders took until success and until failure, by board."""
    good: dict[str, list[float]] = {}
    bad: dict[str, list[float]] = {}
    for view in rollouts:
        if view["rollout"]["model"] != model:
            continue
        for one in view["assignments"]:
            if one["ended_s"] is None or one["ended_s"] < one["dispatched_s"]:
                continue
            into = bad if one["phase"] in FAILED else good
            into.setdefault(one["target"], []).append(min(one["ended_s"] - one["dispatched_s"], 366 * DAY_S))
    return good, bad


def _quantiles(values: Sequence[float], default: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) < MIN_SAMPLES:
        return default
    ordered = sorted(values)
    return tuple(round(ordered[round(step * (len(ordered) - 1) / QUANTILES)], 1) for step in range(QUANTILES + 1))
