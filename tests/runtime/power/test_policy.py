"""Saving begins and ends where it should, holds, and never flaps."""

from __future__ import annotations

import os
import re
import threading
import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.power.cpus import CpuCap
from edgewright.runtime.power.policy import AT_EASE, PowerPolicy, Readings
from edgewright.runtime.serving import PowerSettings
from tests.layering import ROOT

SETTINGS = PowerSettings(hot_c=80, cool_c=70, min_charge=0.2, hold_s=10, saving_batch_rows=4, saving_cpus=1)
READINGS = st.builds(
    Readings,
    hottest_c=st.none() | st.floats(60, 90),
    throttled=st.none() | st.booleans(),
    charge=st.none() | st.floats(0, 1),
    discharging=st.booleans(),
)


def saving(policy: PowerPolicy, celsius: float | None, now_s: float) -> bool:
    return policy.decide(Readings(hottest_c=celsius), now_s).saving


def test_heat_has_two_thresholds_and_holds() -> None:
    policy = PowerPolicy(SETTINGS)
    celsius = {0: 79, 1: 80, 2: 60, 10.9: 60, 11: 71, 12: 70, 13: 79}
    seen = {now_s: saving(policy, value, now_s) for now_s, value in celsius.items()}
    assert seen == {0: False, 1: True, 2: True, 10.9: True, 11: True, 12: False, 13: False}


def test_the_plan_says_what_and_why() -> None:
    policy = PowerPolicy(SETTINGS)
    plan = policy.decide(Readings(hottest_c=85, charge=0.1, discharging=True), 0)
    assert (plan.saving, plan.max_batch_rows, plan.max_cpus, plan.reason) == (True, 4, 1, "hot and battery")
    assert PowerPolicy(SETTINGS).decide(Readings(), 0) == AT_EASE


def test_a_low_battery_saves_until_it_is_charged() -> None:
    policy = PowerPolicy(SETTINGS)
    assert policy.decide(Readings(charge=0.1, discharging=False), 0) == AT_EASE
    assert policy.decide(Readings(charge=0.19, discharging=True), 1).reason == "battery"
    assert policy.decide(Readings(charge=0.22, discharging=True), 20).saving
    assert not policy.decide(Readings(charge=0.26, discharging=True), 21).saving
    assert policy.decide(Readings(charge=0.19, discharging=True), 22).saving
    assert not policy.decide(Readings(charge=0.19, discharging=False), 40).saving


def test_throttling_counts_only_where_it_is_asked_for() -> None:
    assert not PowerPolicy(SETTINGS).decide(Readings(throttled=True), 0).saving
    asked = PowerPolicy(PowerSettings(on_throttle=True, hold_s=0))
    assert asked.decide(Readings(throttled=True), 0).saving
    assert not asked.decide(Readings(throttled=False), 1).saving


@given(st.lists(st.tuples(st.floats(0, 5), READINGS), max_size=60))
def test_saving_holds_and_begins_only_for_a_reason(steps: list[tuple[float, Readings]]) -> None:
    policy, now_s, began_s = PowerPolicy(SETTINGS), 0.0, None
    for pause_s, readings in steps:
        now_s += pause_s
        plan = policy.decide(readings, now_s)
        if plan.saving and began_s is None:
            began_s = now_s
            assert (readings.hottest_c or 0) >= 80 or ((readings.charge or 0) < 0.2 and readings.discharging)
        if not plan.saving and began_s is not None:
            assert now_s - began_s >= SETTINGS.hold_s
            assert (readings.hottest_c or 0) < 80
            began_s = None


@given(st.lists(READINGS, max_size=20))
def test_without_settings_nothing_is_saved(readings: list[Readings]) -> None:
    policy = PowerPolicy(PowerSettings())
    assert not PowerSettings().watches
    assert all(policy.decide(each, number * 100.0) == AT_EASE for number, each in enumerate(readings))


@pytest.mark.parametrize("wrong", [{"cool_c": 50}, {"hot_c": 60, "cool_c": 60}, {"min_charge": 20}, {"hot": 1}])
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, PowerSettings)


def test_processors_are_taken_from_all_threads_and_given_back() -> None:
    own = os.sched_getaffinity(0)
    cap, end = CpuCap(), threading.Event()
    early, late = (threading.Thread(target=end.wait, args=(10,)) for _ in range(2))
    threads = [early, late]
    early.start()
    try:
        cap.apply(1)
        late.start()
        cap.apply(1)
        assert [len(os.sched_getaffinity(thread.native_id or 0)) for thread in threads] == [1, 1]
        assert len(os.sched_getaffinity(0)) == 1
        cap.apply(None)
        assert [os.sched_getaffinity(thread.native_id or 0) for thread in threads] == [own, own]
        assert os.sched_getaffinity(0) == own
    finally:
        cap.apply(None)
        end.set()
        for thread in threads:
            thread.join()


def test_the_guides_example_is_read() -> None:
    guide = (ROOT / "docs/guides/device.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(\[power\]\n.*?)^```", guide, re.MULTILINE | re.DOTALL)
    settings = msgspec.convert(tomllib.loads(example)["power"], PowerSettings)
    assert settings.watches
    assert f"`hold_s` | {PowerSettings().hold_s:g} |" in guide
