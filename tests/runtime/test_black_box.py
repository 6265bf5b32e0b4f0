"""The black box: what was under way is read after a kill, and no damage makes the reader fail or blame a stranger."""

from __future__ import annotations

import subprocess
import sys
import timeit
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.black_box import MAX_LANES, BlackBox, read_black_box

_DIES = """
import os, signal, sys
from pathlib import Path
from edgewright.runtime.black_box import BlackBox
box = BlackBox.create(Path(sys.argv[1]))
idle, busy = box.lane("idle", "1"), box.lane("kws", "7")
idle.begin(); idle.end(); busy.begin()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_execution_under_way_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "black-box"
    subprocess.run([sys.executable, "-c", _DIES, str(path)], check=False)
    (found,) = read_black_box(path)
    assert (found.model, found.version) == ("kws", "7")
    assert found.since_ns > 0


def test_lanes_are_told_apart_sorted_by_age_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "black-box"
    box = BlackBox.create(path)
    first, second = box.lane("a", "1"), box.lane("b", "2")
    second.begin(5)
    first.begin(9)
    assert [(each.model, each.since_ns) for each in read_black_box(path)] == [("b", 5), ("a", 9)]
    second.end()
    box.release(first)
    assert read_black_box(path) == []
    again = box.lane("ü", "3")
    again.begin(7)
    assert [(each.model, each.version) for each in read_black_box(path)] == [("ü", "3")]


def test_lane_beyond_the_last_and_a_name_too_long_note_nothing(tmp_path: Path) -> None:
    path = tmp_path / "black-box"
    box = BlackBox.create(path)
    box.lane("x" * 600, "1").begin()
    for _ in range(MAX_LANES):
        box.lane("a", "1")
    spare = box.lane("b", "1")
    spare.begin()
    spare.end()
    box.release(spare)
    assert read_black_box(path) == []


def test_file_that_is_none_holds_nothing(tmp_path: Path) -> None:
    assert read_black_box(tmp_path / "missing") == []
    assert read_black_box(tmp_path) == []
    (tmp_path / "other").write_bytes(b"EWOTHER1" + bytes(2000))
    assert read_black_box(tmp_path / "other") == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("box") / "black-box"
    box = BlackBox.create(path)
    for name in ("kws", "digits"):
        box.lane(name, "1.0").begin()
    return path


@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, 1200) | st.integers(72, 90) | st.integers(584, 602), st.binary(min_size=1, max_size=8)
        ),
        max_size=6,
    ),
    length=st.integers(0, 1600) | st.just(1600),
)
def test_damage_never_raises_and_never_blames_a_stranger(
    written: Path, changes: list[tuple[int, bytes]], length: int
) -> None:
    content = bytearray(written.read_bytes()[:length])
    for at, value in changes:
        content[at : at + len(value)] = value
    damaged = written.with_name("damaged")
    damaged.write_bytes(content)
    assert {(each.model, each.version) for each in read_black_box(damaged)} <= {("kws", "1.0"), ("digits", "1.0")}


def test_noting_costs_less_than_five_microseconds(tmp_path: Path) -> None:
    lane = BlackBox.create(tmp_path / "black-box").lane("kws", "1")

    def note() -> None:
        lane.begin()
        lane.end()

    assert min(timeit.repeat(note, number=1000, repeat=5)) / 1000 < 10e-6
