"""Which windows speak for the new release, and which for the old."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgewright.fleet.core.evidence import gather
from edgewright.fleet.core.rows import Assignment
from edgewright.fleet.core.windows import ObservedWindow
from edgewright.runtime.telemetry.records import WindowRecord

from .conftest import NEW, OLD, Traffic, World


def window(device: str, bundle: str, start_s: int, rows: int = 10, model: str = "m") -> ObservedWindow:
    record = WindowRecord(
        model=model,
        version="2" if bundle == NEW else "1",
        bundle=bundle,
        reference="sha256:r",
        window_start_s=start_s,
        window_s=10,
        boot="b",
        incarnation="i",
        seq=1,
        closed=True,
        requests=rows,
        failures=0,
        rows=rows,
        latency_us_sum=0,
        latency=(rows,),
        histograms=((rows,) + (0,) * 9, (rows, 0, 0, 0), (rows, 0, 0, 0, 0, 0)),
    )
    return ObservedWindow(device=device, record=record)


def started(devices: int = 3) -> tuple[World, Assignment]:
    world = World({"waves": [1, "rest"]}, devices)
    world.step(1000.0)
    (order,) = world.ledger.assignments
    return world, order


def test_treated_and_concurrent_control(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    others = [device.id for device in world.devices if device.id != order.device]
    reference = traffic(1).calibrated()
    windows = [
        window(order.device, NEW, 1000),
        window(order.device, NEW, 1010),
        window(order.device, NEW, 980),  # before its order: an earlier try of the same bundle
        window(order.device, OLD, 990, rows=500),  # before: not concurrent
        window(others[0], OLD, 1000),
        window(others[0], OLD, 1000),  # a duplicate
        window(others[1], OLD, 1010),
        window(others[1], OLD, 1030),  # no device on the new release in that window
        window(others[1], "sha256:unknown", 1000),
        window("stranger", OLD, 1000),
        window(others[0], OLD, 1000, model="other"),
    ]
    (evidence,) = gather(world.ledger.rollout, world.devices, [order], windows, {OLD: reference, NEW: reference})
    assert evidence.treated.rows == 20
    assert (evidence.control_kind, evidence.control.rows, evidence.control.devices) == ("concurrent", 20, 2)
    assert evidence.control_reference == reference


def test_without_devices_on_the_old_release_the_same_devices_before_are_taken(
    traffic: Callable[[int], Traffic],
) -> None:
    world, order = started(devices=1)
    reference = traffic(1).calibrated()
    windows = [window(order.device, NEW, 1000), window(order.device, OLD, 990, rows=30)]
    (evidence,) = gather(world.ledger.rollout, world.devices, [order], windows, {OLD: reference, NEW: reference})
    assert (evidence.control_kind, evidence.control.rows) == ("before", 30)


def test_a_first_release_has_no_control(traffic: Callable[[int], Traffic]) -> None:
    world, order = started(devices=1)
    (evidence,) = gather(
        world.ledger.rollout,
        world.devices,
        [order],
        [window(order.device, NEW, 1000)],
        {NEW: traffic(1).calibrated()},
    )
    assert (evidence.control_kind, evidence.control.rows, evidence.control_reference) == ("none", 0, None)


def test_of_several_old_bundles_the_busiest_is_taken(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    others = [device.id for device in world.devices if device.id != order.device]
    reference = traffic(1).calibrated()
    windows = [
        window(order.device, NEW, 1000),
        window(others[0], OLD, 1000, rows=11),
        window(others[1], "sha256:older", 1000, rows=12),
    ]
    references = {OLD: reference, NEW: reference, "sha256:older": reference}
    (evidence,) = gather(world.ledger.rollout, world.devices, [order], windows, references)
    assert evidence.control.rows == 12


def test_an_earlier_wave_does_not_vouch_for_a_later_one(traffic: Callable[[int], Traffic]) -> None:
    world, order = started()
    later = msgspec.structs.replace(world.ledger.rollout, wave=1)
    reference = traffic(1).calibrated()
    assert gather(later, world.devices, [order], [window(order.device, NEW, 1000)], {NEW: reference}) == ()
