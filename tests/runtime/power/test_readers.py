"""What a board tells is read as it is meant, and what it does not tell is not invented."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.power.battery import Battery, read_battery
from edgewright.runtime.power.board import Board
from edgewright.runtime.power.energy import EnergyMeter, advance_uj, find_meter
from edgewright.runtime.power.heat import Clock, Zone, read_clocks, read_zones
from edgewright.runtime.power.per_row import WINDOW_S, JoulesPerRow
from edgewright.runtime.power.policy import Readings
from tests.runtime.power.fake_sysfs import battery, rapl, write, zone

RANGE_UJ = 65_532_610_987


def clock(allowed_khz: int) -> dict[str, object]:
    folder = "devices/system/cpu/cpufreq/policy0"
    return {
        f"{folder}/scaling_cur_freq": 600_000,
        f"{folder}/scaling_max_freq": allowed_khz,
        f"{folder}/cpuinfo_max_freq": 1_800_000,
    }


def monitor(number: int, chip: str, values: dict[str, object]) -> dict[str, object]:
    return {f"class/hwmon/hwmon{number}/{name}": value for name, value in {"name": chip, **values}.items()}


def joules(meter: EnergyMeter | None, *times_s: float) -> float:
    assert meter is not None
    for now_s in times_s:
        meter.update(now_s)
    return meter.joules


def test_a_board_that_tells_nothing(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        board = Board(root)
        assert board.meter is None
        assert board.read() == Readings()


def test_zones_are_read_and_sensors_that_are_off_are_not(tmp_path: Path) -> None:
    write(tmp_path, {**zone(0, 41.5), **zone(1, 77.0, "gpu"), **zone(2, -274.0, "off"), **zone(3, 4e6, "broken")})
    write(tmp_path, {"class/thermal/thermal_zone4/temp": "N/A", "class/thermal/thermal_zone5/type": "no sensor"})
    assert read_zones(tmp_path) == [Zone("cpu-thermal", 41.5), Zone("gpu", 77.0)]
    assert Board(tmp_path).read().hottest_c == 77.0


def test_clocks_are_read(tmp_path: Path) -> None:
    write(tmp_path, {**clock(1_500_000), "devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "<unknown>"})
    assert read_clocks(tmp_path) == [Clock("policy0", 600_000, 1_500_000, 1_800_000)]


@pytest.mark.parametrize(("allowed_khz", "throttled"), [(1_800_000, False), (1_200_000, True)])
def test_a_clock_below_its_best_is_throttled(tmp_path: Path, allowed_khz: int, throttled: bool) -> None:
    assert Board(write(tmp_path, clock(allowed_khz))).read().throttled is throttled


def test_throttling_is_counted_since_the_last_look(tmp_path: Path) -> None:
    counts = [f"devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count" for core in (0, 1)]
    board = Board(write(tmp_path, {counts[0]: 7, counts[1]: 0}))
    assert board.read().throttled is False
    write(tmp_path, {counts[1]: 1})
    assert [board.read().throttled for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("word", "throttled"), [("0", False), ("1", False), ("50000", False), ("50005", True), ("8", True)]
)
def test_a_raspberry_pi_is_believed(tmp_path: Path, word: str, throttled: bool) -> None:
    """0x50005 would be under-voltage now (bit 0) and throttled now (bit 2); 0x50000 is what happened before."""
    write(tmp_path, {**clock(1_200_000), "devices/platform/soc/soc:firmware/get_throttled": word})
    assert Board(tmp_path).read().throttled is throttled


def test_the_emptiest_battery_of_the_board_counts(tmp_path: Path) -> None:
    write(tmp_path, {**battery(80, "Discharging"), **battery(5, "Discharging", number=1, scope="Device")})
    write(tmp_path, {"class/power_supply/AC/type": "Mains", "class/power_supply/AC/online": 1})
    assert read_battery(tmp_path) == Battery(0.8, discharging=True)
    write(tmp_path, battery(30, "Charging", number=2))
    assert read_battery(tmp_path) == Battery(0.3, discharging=False)


def test_rapl_counts_on_when_it_starts_again(tmp_path: Path) -> None:
    meter = find_meter(write(tmp_path, rapl("0", "package-0", RANGE_UJ - 1_000_000, RANGE_UJ)))
    assert joules(meter, 0) == 0
    write(tmp_path, rapl("0", "package-0", 2_000_000, RANGE_UJ))
    assert joules(meter, 1) == pytest.approx(3.0)


@given(st.integers(1, 2**62), st.lists(st.integers(0, 10**12), max_size=20), st.integers(0, 2**62))
def test_no_energy_is_lost_or_made_by_starting_again(range_uj: int, steps: list[int], start: int) -> None:
    true = start % range_uj
    total = 0
    for step in steps:
        step %= range_uj  # noqa: PLW2901 - a counter may start again once between two looks, no more
        total += advance_uj(true % range_uj, (true + step) % range_uj, range_uj)
        true += step
    assert total == true - start % range_uj


def test_the_platform_is_not_counted_twice(tmp_path: Path) -> None:
    write(tmp_path, {**rapl("0", "package-0", 1), **rapl("0:0", "core", 1), **rapl("0:1", "dram", 1)})
    meter = find_meter(tmp_path)
    assert meter is not None
    assert meter.sources == ("package-0@0", "dram@0:1")
    write(tmp_path, rapl("1", "psys", 1))
    meter = find_meter(tmp_path)
    assert meter is not None
    assert meter.sources == ("psys@1",)


def test_a_counter_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """As root in a test every file can be read, so this one is a folder: EISDIR in place of EACCES."""
    write(tmp_path, rapl("0", "package-0", 1))
    path = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    path.unlink()
    path.mkdir()
    assert find_meter(tmp_path) is None


def test_a_counter_that_goes_away_leaves_a_gap_and_nothing_else(tmp_path: Path) -> None:
    meter = find_meter(write(tmp_path, rapl("0", "package-0", 0)))
    path = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    assert joules(meter, 0) == 0
    path.unlink()
    joules(meter, 1)
    path.write_text("9000000\n")
    assert joules(meter, 2) == 0
    path.write_text("9500000\n")
    assert joules(meter, 3) == pytest.approx(0.5)


def test_watts_are_added_up_over_time(tmp_path: Path) -> None:
    meter = find_meter(write(tmp_path, monitor(0, "ina226", {"power1_input": 2_000_000})))
    joules(meter, 0)
    write(tmp_path, monitor(0, "ina226", {"power1_input": 4_000_000}))
    assert joules(meter, 1) == pytest.approx(3.0)
    assert joules(meter, 60) == pytest.approx(3.0), "nobody knows what was in between"
    assert joules(meter, 61) == pytest.approx(7.0)


def test_the_rail_that_feeds_the_board_is_taken_from_volts_and_amperes(tmp_path: Path) -> None:
    rails = {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 1200}
    parts = {"in2_label": "VDD_CPU_GPU_CV", "in2_input": 5000, "curr2_input": 500}
    write(tmp_path, monitor(3, "ina3221", {**rails, **parts}))
    write(tmp_path, rapl("0", "package-0", 1))
    meter = find_meter(tmp_path)
    assert meter is not None
    assert meter.sources == ("ina3221/VDD_IN",)
    assert joules(meter, 0, 2) == pytest.approx(12.0)


def test_rails_without_a_known_name_are_not_added_up(tmp_path: Path) -> None:
    write(tmp_path, monitor(0, "ina226", {"power1_input": 1}))
    write(tmp_path, monitor(1, "ina226", {"power1_input": 1}))
    write(tmp_path, monitor(2, "nvme", {"power1_input": 1}))
    assert find_meter(tmp_path) is None


def test_joules_per_row_are_of_the_last_minute() -> None:
    per_row = JoulesPerRow()
    assert per_row.value is None
    per_row.add(0, 100.0, 50)
    assert per_row.value is None
    per_row.add(1, 105.0, 50)
    assert per_row.value is None, "nothing was executed"
    per_row.add(2, 110.0, 60)
    assert per_row.value == pytest.approx(1.0)
    per_row.add(2 + WINDOW_S, 120.0, 80)
    assert per_row.value == pytest.approx(0.5)
    per_row.add(3 + WINDOW_S, 130.0, 10)
    assert per_row.value is None, "a model left, and its rows with it"
    per_row.add(4 + WINDOW_S, 140.0, 20)
    assert per_row.value == pytest.approx(1.0)
