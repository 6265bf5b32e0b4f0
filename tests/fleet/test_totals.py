"""Totals equal the sum over the newest record of each key, whatever comes in which order and is folded when."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from edgewright.fleet.core.sums import ranges
from edgewright.fleet.core.sums.slots import FLEET, Changes, SlotKey
from edgewright.fleet.core.sums.windows import MOST, ObservedWindow, Totals, difference, latest, sum_of, total
from edgewright.fleet.housekeeping import BY_WINDOW_S, Housekeeper
from edgewright.fleet.store import totals, windows
from edgewright.fleet.store.database import Database
from edgewright.fleet.store.spans import join_cohort
from edgewright.fleet.store.windows import fold, put_windows, windows_of
from edgewright.runtime.telemetry.records import WindowRecord

BUNDLE = "sha256:b"
HOUR_S = 3600
START_S = 100 * HOUR_S
FAR_S = START_S + 100 * HOUR_S


def record(**changes: object) -> WindowRecord:
    values: dict[str, object] = {
        "model": "m",
        "version": "1",
        "bundle": BUNDLE,
        "reference": "sha256:r",
        "window_start_s": START_S,
        "window_s": 60,
        "boot": "b",
        "incarnation": "i",
        "seq": 1,
        "closed": True,
        "requests": 1,
        "failures": 0,
        "rows": 1,
        "latency_us_sum": 5,
        "latency": (1, 0),
        "histograms": ((1, 0),),
    }
    return msgspec.convert(values | changes, WindowRecord)


def grown(seq: int, of: int, **key: object) -> WindowRecord:
    """The record of a key after `seq` updates of `of`: cumulative, and closed by the last one."""
    return record(
        **key,
        seq=seq,
        closed=seq == of,
        requests=3 * seq,
        failures=seq // 2,
        rows=5 * seq,
        latency_us_sum=7 * seq,
        latency=(seq, 2 * seq),
        histograms=((4 * seq, seq),),
    )


Step = tuple[str, int] | tuple[str, ObservedWindow]

KEYS = [
    (device, {"incarnation": incarnation, "window_start_s": START_S + 60 * place, "bundle": bundle})
    for device, incarnation, place, bundle in itertools.product(
        ("a", "b"), ("x", "y"), (0, 1, 5, 60, 61), (BUNDLE, "sha256:other")
    )
]
came = st.tuples(st.sampled_from(KEYS), st.integers(1, 4)).map(
    lambda each: ("put", ObservedWindow(device=each[0][0], record=grown(each[1], 4, **each[0][1])))
)
steps = st.lists(
    came
    | st.tuples(st.just("fold"), st.integers(0, 70).map(lambda place: START_S + 60 * place))
    | st.tuples(st.just("join"), st.integers(0, 3).map(lambda hours: START_S + HOUR_S * hours))
    | st.tuples(st.just("again"), st.integers(0, 30)),
    max_size=30,
)


@contextmanager
def fresh() -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder))
        try:
            yield database
        finally:
            database.close()


def kept(database: Database, bundle: str = BUNDLE) -> Totals:
    with database.read() as connection:
        slots = totals.slots_of(connection, [bundle], since_s=0, until_s=10 * FAR_S)
        return sum_of(slot.totals for slot in slots)


def plain(seen: list[ObservedWindow], bundle: str = BUNDLE) -> Totals:
    """What the totals must be: the newest of each key, added up."""
    of_bundle = [one for one in seen if one.record.bundle == bundle]
    return msgspec.structs.replace(total(latest(of_bundle)), devices=0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_any_order_of_records_repetitions_folds_and_joins_gives_the_same_totals(found: list[Step]) -> None:
    seen: list[ObservedWindow] = []
    with fresh() as database:
        for kind, what in found:
            with database.write() as connection:
                if isinstance(what, ObservedWindow):
                    seen.append(what)
                    put_windows(connection, [(what.device, what.record)], now_s=0)
                elif kind == "fold":
                    fold(connection, before_s=what, most=3)
                elif kind == "join":
                    totals.join_hours(connection, before_s=what)
                else:
                    put_windows(connection, [(one.device, one.record) for one in seen[:what]], now_s=0)
        for bundle in (BUNDLE, "sha256:other"):
            assert kept(database, bundle) == plain(seen, bundle)


@settings(max_examples=40, deadline=None)
@given(st.lists(came, min_size=1, max_size=25), st.integers(0, 25))
def test_one_batch_or_many_makes_no_difference(found: list[tuple[str, ObservedWindow]], cut: int) -> None:
    seen = [(each.device, each.record) for _, each in found]
    with fresh() as whole, fresh() as parts:
        with whole.write() as connection:
            put_windows(connection, seen, now_s=0)
        for part in (seen[:cut], seen[cut:]):
            with parts.write() as connection:
                put_windows(connection, part, now_s=0)
        assert kept(whole) == kept(parts) == plain([each for _, each in found])


@settings(max_examples=40, deadline=None)
@given(st.lists(came, max_size=12), st.lists(came, max_size=12), st.integers(0, 62))
def test_a_wave_counts_the_windows_of_its_devices_that_end_after_the_order(
    before: list[tuple[str, ObservedWindow]], after: list[tuple[str, ObservedWindow]], place: int
) -> None:
    ordered_s = START_S + 60 * place
    seen = [each for _, each in (*before, *after)]
    with fresh() as database:
        for each in (one for _, one in before):
            with database.write() as connection:
                put_windows(connection, [(each.device, each.record)], now_s=0)
        with database.write() as connection:
            watch(connection, device="a", dispatched_s=ordered_s)
            join_cohort(connection, "r/0", "m", {"a": ordered_s})
        for each in (one for _, one in after):
            with database.write() as connection:
                put_windows(connection, [(each.device, each.record)], now_s=0)
        with database.read() as connection:
            slots = totals.slots_of(connection, [BUNDLE], since_s=0, until_s=FAR_S, cohorts=["r/0"])
    treated = [one for one in seen if one.device == "a" and one.record.window_start_s + 60 > ordered_s]
    assert sum_of(slot.totals for slot in slots) == plain(treated)


def watch(connection: object, *, device: str, dispatched_s: float) -> None:
    """Put an order of a running rollout into the store, without the rest of the fleet."""
    run = connection.exec_driver_sql  # type: ignore[attr-defined]
    run("PRAGMA defer_foreign_keys = ON")
    run(
        "INSERT INTO rollouts (rollout, model, version, state, revision, created_s, row, gates) "
        "VALUES ('r', 'm', '2', 'running', 1, 0, '', '')"
    )
    run(
        "INSERT INTO devices (device, secret, target, target_digest, emulated, software, isa, enrolled_s, "
        "desired_epoch, epoch_seen) VALUES (?, '', 't', 't', 0, '', '[]', 0, 0, 0)",
        (device,),
    )
    run(
        "INSERT INTO assignments (rollout, device, target, wave, position, version, bundle, command, dispatched_s) "
        "VALUES ('r', ?, 't', 0, 0, '2', 'x', 'c', ?)",
        (device, dispatched_s),
    )


def test_a_folded_window_is_gone_and_its_repetition_is_known(tmp_path: Path) -> None:
    database = Database(tmp_path)
    closed, still_open = grown(4, 4), grown(2, 4, incarnation="dead")
    with database.write() as connection:
        put_windows(connection, [("a", closed), ("a", still_open)], now_s=0)
        assert fold(connection, before_s=FAR_S, most=10) == 1
        assert [one.record.incarnation for one in windows_of(connection)] == ["dead"], "an open window is not folded"
        assert put_windows(connection, [("a", closed)], now_s=0) == 1
        assert put_windows(connection, [("a", grown(4, 4, incarnation="dead"))], now_s=0) == 0
    assert kept(database).requests == 24
    database.close()


def test_the_housekeeper_leaves_little_and_loses_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path)
    seen = [ObservedWindow(device="a", record=grown(4, 4, window_start_s=START_S + 60 * n)) for n in range(600)]
    with database.write() as connection:
        put_windows(connection, [(one.device, one.record) for one in seen], now_s=0)
    now_s = START_S + 600 * 60
    assert Housekeeper(database, keep_days=0.25).step(now_s) == 240
    with database.read() as connection:
        assert len(windows_of(connection)) == 360
        slots = totals.slots_of(connection, [BUNDLE], since_s=0, until_s=FAR_S)
        assert len(slots) == 8 + BY_WINDOW_S / 60
        (series,) = connection.exec_driver_sql("SELECT length(folded) FROM series").scalars()
        assert series < 20, "an unbroken run of windows is one range"
    assert kept(database) == plain(seen)
    assert Housekeeper(database, keep_days=0.25).step(now_s) == 0
    database.close()


def test_a_late_record_of_a_joined_hour_is_added_to_the_hour(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.write() as connection:
        put_windows(connection, [("a", grown(2, 4))], now_s=0)
        totals.join_hours(connection, before_s=START_S + HOUR_S)
        put_windows(connection, [("a", grown(4, 4)), ("b", grown(4, 4, window_start_s=START_S + 120))], now_s=0)
        (slot,) = totals.slots_of(connection, [BUNDLE], since_s=0, until_s=FAR_S)
    assert slot.key[2:4] == (START_S, HOUR_S)
    assert slot.totals.requests == 24
    database.close()


def test_the_cohorts_of_an_ended_rollout_are_forgotten(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.write() as connection:
        watch(connection, device="a", dispatched_s=0)
        put_windows(connection, [("a", record())], now_s=0)
        totals.drop_ended(connection)
        assert totals.slots_of(connection, [BUNDLE], since_s=0, until_s=FAR_S, cohorts=["r/0"])
        connection.exec_driver_sql("UPDATE rollouts SET state = 'completed'")
        totals.drop_ended(connection)
        assert not totals.slots_of(connection, [BUNDLE], since_s=0, until_s=FAR_S, cohorts=["r/0"])
        assert totals.slots_of(connection, [BUNDLE], since_s=0, until_s=FAR_S)
    database.close()


def test_a_transaction_that_fails_leaves_records_and_totals_as_they_were(tmp_path: Path) -> None:
    database = Database(tmp_path)

    def fail() -> None:
        with database.write() as connection:
            put_windows(connection, [("a", record())], now_s=0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert kept(database) == Totals()
    database.close()


def test_sums_end_at_what_a_database_holds() -> None:
    huge = Totals(windows=1, requests=MOST, latency=(MOST,), histograms=((MOST, 1),))
    twice = sum_of([huge, huge])
    assert (twice.requests, twice.latency, twice.histograms) == (MOST, (MOST,), ((MOST, 2),))
    assert difference(Totals(windows=1, latency=(1,)), Totals(windows=1, latency=(2,))).latency == (0,)
    key = SlotKey(FLEET, BUNDLE, 0, 60, "s")
    changes = Changes()
    changes.add(key, huge)
    assert changes.after({key: huge})[key].requests == MOST


@given(st.lists(st.lists(st.integers(0, 60), max_size=10), max_size=10))
def test_ranges_hold_what_was_put_in(batches: list[list[int]]) -> None:
    found: ranges.Ranges = ()
    for batch in batches:
        found = ranges.union(found, batch)
    there = {number for batch in batches for number in batch}
    assert {number for number in range(62) if ranges.holds(found, number)} == there
    assert all(low <= high for low, high in found)
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))


def test_devices_are_those_whose_windows_are_in_the_span(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.write() as connection:
        put_windows(connection, [("a", record()), ("b", record(window_start_s=START_S + 600))], now_s=0)
        found = windows.reporting(connection, [BUNDLE], since_s=START_S + 60)
    assert [(one.device, one.ends_s) for one in found] == [("b", START_S + 660)]
    database.close()


def test_the_lookups_of_the_ingest_use_an_index(tmp_path: Path) -> None:
    database = Database(tmp_path)
    plans: list[str] = []
    with database.write() as connection:

        def explain(_c: object, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
            if "json_each" in statement:
                plans.extend(str(row[-1]) for row in cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters))

        event.listen(connection, "before_cursor_execute", explain)
        put_windows(connection, [("a", record()), ("b", record())], now_s=0)
    assert any(plan.startswith("SEARCH windows USING") for plan in plans)
    assert not [plan for plan in plans if plan.startswith("SCAN") and not plan.startswith("SCAN wanted VIRTUAL")]
    database.close()
