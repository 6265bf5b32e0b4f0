"""The spool against a model of it, with power cuts at every file operation."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgewright.runtime.memory_storage import DAMAGES, Damage, MemoryStorage, PowerCut
from edgewright.runtime.storage import LocalStorage
from edgewright.runtime.telemetry.records import GapRecord, Record, UpdateRecord
from edgewright.runtime.telemetry.spool import MAX_RECORD_BYTES, Spool, SpoolFault, SpoolLimits

ROOT = Path("/spool")
SMALL = SpoolLimits(max_bytes=4096, segment_bytes=512, cursor_every=3)


def record(number: int, size: int = 0) -> UpdateRecord:
    return UpdateRecord(
        command=str(number), model="m", version="1", bundle="b", phase="trial", reason="x" * size, at_s=1.0, boot="boot"
    )


def reopen(storage: MemoryStorage, limits: SpoolLimits = SMALL) -> Spool:
    return Spool.open(storage, ROOT, limits=limits, new_identity="one", now_s=2.0)


def fill(spool: Spool) -> None:
    for number in range(2, 50):
        spool.append(record(number), 1.0)


def everything(spool: Spool) -> list[tuple[int, Record]]:
    found: list[tuple[int, Record]] = []
    start = spool.acked_seq + 1
    while batch := spool.read(start, max_bytes=700):
        found += batch
        start = batch[-1][0] + 1
    return found


def test_records_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = Spool.open(LocalStorage(), tmp_path / "spool", new_identity="one", now_s=1.0)
    assert [spool.append(record(n), 1.0) for n in range(1, 6)] == [1, 2, 3, 4, 5]
    assert spool.read(1, max_bytes=9999) == []  # nothing is handed out before it is on the medium
    spool.commit()
    spool.acknowledge(2)
    spool.save_cursor()
    again = Spool.open(LocalStorage(), tmp_path / "spool", new_identity="two", now_s=1.0)
    assert (again.identity, again.next_seq, again.acked_seq, again.backlog) == ("one", 6, 2, 3)
    assert everything(again) == [(n, record(n)) for n in (3, 4, 5)]


def test_full_spool_drops_the_oldest_and_says_which() -> None:
    spool = reopen(MemoryStorage())
    for number in range(1, 200):
        spool.append(record(number), 5.0)
    spool.commit()
    assert spool.size_bytes <= SMALL.max_bytes
    kept = everything(spool)
    gaps = [item for _, item in kept if isinstance(item, GapRecord)]
    lost = {seq for gap in gaps for seq in range(gap.first_seq, gap.last_seq + 1)}
    here = {seq for seq, _ in kept}
    assert lost | here == set(range(1, spool.next_seq))
    assert isinstance(kept[-1][1], UpdateRecord)
    assert kept[-1][1].command == "199"


def test_acknowledged_segments_leave_the_disk_and_numbers_go_on() -> None:
    storage = MemoryStorage()
    spool = reopen(storage)
    for number in range(1, 30):
        spool.append(record(number), 5.0)
    spool.commit()
    spool.acknowledge(spool.next_seq - 1)
    spool.acknowledge(10**9)  # a number that was never given out
    assert sum(name.endswith(".segment") for name in storage.names(ROOT)) == 1
    again = reopen(storage)
    assert again.next_seq == 30
    assert again.backlog <= SMALL.cursor_every


def test_flipped_byte_in_a_sealed_segment_becomes_a_gap() -> None:
    storage = MemoryStorage()
    spool = reopen(storage)
    for number in range(1, 30):
        spool.append(record(number), 5.0)
    spool.commit()
    path = ROOT / storage.names(ROOT)[0]
    content = bytearray(storage.read(path))
    content[len(content) // 2] ^= 1
    storage.write(path, bytes(content))
    found = everything(reopen(storage))
    gaps = [item for _, item in found if isinstance(item, GapRecord)]
    assert len(gaps) == 1
    assert {seq for seq, _ in found} | set(range(gaps[0].first_seq, gaps[0].last_seq + 1)) == set(range(1, 31))


def test_full_disk_is_one_clear_error_and_the_spool_works_on() -> None:
    storage = MemoryStorage()
    spool = reopen(storage)
    spool.append(record(1), 1.0)
    spool.commit()
    storage.capacity_bytes = 300
    with pytest.raises(SpoolFault, match="No space left"):
        fill(spool)
    storage.capacity_bytes = None
    spool.append(record(50), 1.0)
    spool.commit()
    assert everything(reopen(storage)) == everything(spool)


@pytest.mark.parametrize("failing", range(1, 20))
@pytest.mark.parametrize("refused", [("sync_path",), ("append",), ("append", "truncate"), ("write",), ("rename",)])
def test_after_failed_operations_what_was_committed_is_on_the_medium(refused: tuple[str, ...], failing: int) -> None:
    storage = MemoryStorage()
    spool = reopen(storage)
    seen = 0

    def fails(operation: str) -> bool:
        nonlocal seen
        seen += operation.startswith(refused)
        return seen in (failing, failing + 1) and operation.startswith(refused)

    storage.refuses = fails
    committed: dict[int, Record] = {}
    for number in range(1, 31):
        try:
            spool.append(record(number), 1.0)
            if number % 3 == 0:
                spool.commit()
                committed = dict(everything(spool))
        except SpoolFault:
            continue
    storage.refuses = lambda _operation: False
    spool.commit()
    after = reopen(storage.rebooted(DAMAGES[0]))
    assert dict(everything(after)).items() >= committed.items()
    assert everything(after) == everything(spool)
    assert [seq for seq, _ in everything(after)] == list(range(1, after.next_seq))


def test_acknowledgement_on_a_disk_that_refuses_everything_is_taken() -> None:
    storage = MemoryStorage()
    spool = reopen(storage)
    fill(spool)
    spool.commit()
    storage.refuses = lambda _operation: True
    spool.acknowledge(40)
    assert spool.acked_seq == 40
    storage.refuses = lambda _operation: False
    again = reopen(storage.rebooted(DAMAGES[0]))
    assert again.next_seq == spool.next_seq
    assert dict(everything(spool)).items() <= dict(everything(again)).items()


def test_damage_in_the_last_segment_never_gives_a_number_out_again() -> None:
    storage = MemoryStorage()
    spool = reopen(storage, SpoolLimits())
    fill(spool)
    spool.commit()
    path = ROOT / next(name for name in storage.names(ROOT) if name.endswith(".segment"))
    whole = storage.read(path)
    for place in (3, 30, len(whole) // 2):
        content = bytearray(whole)
        content[place] ^= 0x40
        damaged = storage.rebooted(DAMAGES[0])
        damaged.write(path, bytes(content))
        again = reopen(damaged, SpoolLimits())
        assert again.next_seq > spool.next_seq
        found = everything(again)
        lost = {seq for _, g in found if isinstance(g, GapRecord) for seq in range(g.first_seq, g.last_seq + 1)}
        assert lost | {seq for seq, _ in found} == set(range(1, again.next_seq))


def test_unreadable_segment_is_a_hole_and_the_spool_opens() -> None:
    class BadBlock(MemoryStorage):
        def read(self, path: Path) -> bytes:
            if path in self.bad:
                raise OSError(5, "Input/output error", str(path))
            return super().read(path)

        bad: tuple[Path, ...] = ()

    storage = BadBlock()
    fill(spool := reopen(storage))
    spool.commit()
    storage.bad = tuple(ROOT / name for name in storage.names(ROOT) if name.endswith(".segment"))[-2:]
    again = reopen(storage)
    assert again.next_seq >= spool.next_seq


def test_giant_record_is_refused() -> None:
    spool = reopen(MemoryStorage(), SpoolLimits())
    with pytest.raises(SpoolFault, match="too large"):
        spool.append(record(1, MAX_RECORD_BYTES), 1.0)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_power_cut_at_every_operation_loses_no_committed_record(damage: Damage) -> None:
    cut_at = 1
    while True:
        storage = MemoryStorage(cut_at=cut_at)
        committed: dict[int, Record] = {}
        acknowledged = 0
        gone = True
        try:
            spool = reopen(storage)
            for number in range(1, 90):
                seq = spool.append(record(number), 1.0)
                if number % 4 == 0:
                    spool.commit()
                    committed = dict(spool.read(spool.acked_seq + 1, max_bytes=10**6)) | {seq: record(number)}
                if number % 10 == 0:
                    acknowledged = seq - 38
                    spool.acknowledge(acknowledged)
            gone = False
        except PowerCut:
            pass
        again = reopen(storage.rebooted(damage))
        found = dict(everything(again))
        for seq, item in committed.items():
            lost = any(isinstance(g, GapRecord) and g.first_seq <= seq <= g.last_seq for g in found.values())
            assert seq <= acknowledged or lost or found[seq] == item, (cut_at, storage.log[-1])
        assert again.next_seq > max(committed, default=0)
        again.append(record(1000), 1.0)
        again.commit()
        if not gone:
            break
        cut_at += 1
    assert cut_at > 90


class SpoolMachine(RuleBasedStateMachine):
    """The spool does what a list with a low-water mark would do, through cuts of any kind."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryStorage()
        self.spool = reopen(self.storage)
        self.written: dict[int, UpdateRecord] = {}
        self.durable = 0
        self.acked = 0

    @rule(size=st.integers(0, 300))
    def append(self, size: int) -> None:
        item = record(len(self.written), size)
        self.written[self.spool.append(item, 1.0)] = item

    @rule()
    def commit(self) -> None:
        self.spool.commit()
        self.durable = self.spool.next_seq - 1

    @rule(ahead=st.integers(-2, 20))
    def acknowledge(self, ahead: int) -> None:
        self.spool.acknowledge(self.acked + ahead)
        self.acked = self.spool.acked_seq

    @rule(damage=st.sampled_from(DAMAGES))
    def lose_power(self, damage: Damage) -> None:
        self.storage = self.storage.rebooted(damage)
        self.spool = reopen(self.storage)
        assert self.spool.next_seq > self.durable
        self.written = {seq: item for seq, item in self.written.items() if seq < self.spool.next_seq}
        self.acked = self.spool.acked_seq
        self.durable = self.spool.next_seq - 1

    @invariant()
    def is_bounded_and_complete(self) -> None:
        assert self.spool.size_bytes <= SMALL.max_bytes
        found = everything(self.spool)
        lost = {s for _, g in found if isinstance(g, GapRecord) for s in range(g.first_seq, g.last_seq + 1)}
        here = dict(found)
        for seq in range(self.acked + 1, self.durable + 1):
            assert seq in lost or seq in here
            if seq in here and isinstance(here[seq], UpdateRecord):
                assert here[seq] == self.written[seq]


TestSpoolModel = SpoolMachine.TestCase
TestSpoolModel.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
