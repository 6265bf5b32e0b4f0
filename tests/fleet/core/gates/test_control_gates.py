"""Blocks enter once and in order; what a block says is kept so that every e-value can be computed again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.gates.comparisons import BINS, COMPARISONS, MOST_HISTOGRAMS
from edgewright.fleet.core.gates.control import MOST_BLOCKS, blocks_of, control_gates, due_blocks, fold, learn
from edgewright.fleet.core.gates.failures import failure_gates
from edgewright.fleet.core.gates.status import GateStatus
from edgewright.fleet.core.gates.verdict import decide
from edgewright.fleet.core.gates.weights import METRICS
from edgewright.fleet.core.observations import Block, BlockOutcome, GateMemory, Metric, Observation
from edgewright.fleet.core.outcomes import Outcome
from edgewright.fleet.core.rows import Assignment, BoardHalt, Rollout
from edgewright.fleet.core.sequential.combine import log_e_now

from ..order_rows import order, rollout

FIVE = ("a", "b", "c", "d", "e")


# Which blocks are due


def drawn(block: int, at_s: float = 0.0, **fields: Any) -> list[Assignment]:
    first = order(2 * block, None, block=block, dispatched_s=at_s, **fields)
    return [first, order(2 * block + 1, None, block=block, arm="control", dispatched_s=at_s, **fields)]


def due(rows: list[Assignment], now_s: float, next_block: int = 0, **policy: Any) -> list[int]:
    run = rollout(**({"horizonSeconds": 100} | policy))
    return [number for number, _ in due_blocks(run, rows, GateMemory(next_block=next_block), now_s)]


def test_a_block_is_due_when_all_its_devices_were_observed() -> None:
    rows = [*drawn(0), *drawn(1, 5.0)]
    assert due(rows, 99.9) == []
    assert due(rows, 100.0) == [0]
    assert due(rows, 105.0) == [0, 1]
    assert due(rows, 105.0, next_block=1) == [1]
    assert due(rows, 30.0, control={"observationSeconds": 25}) == [0, 1]


def test_a_block_waits_for_those_before_it_and_for_its_last_device() -> None:
    rows = [*drawn(0, 50.0), *drawn(1, 0.0)]
    assert due(rows, 120.0) == []
    assert due([*drawn(1), *drawn(2)], 500.0) == [], "block 0 is not there"
    late = [drawn(0)[0], msgspec.structs.replace(drawn(0)[1], drawn_s=60.0)]
    assert (due(late, 120.0), due(late, 160.0)) == ([], [0])


def test_a_block_waits_for_an_order_that_an_emergency_stop_took_back() -> None:
    """Not on a board that was halted: there it is not given again, and the others go on."""
    treated, control = drawn(0)
    unheard = msgspec.structs.replace(treated, rolled_back_s=10.0, started_s=None, phase=None)
    rows = [unheard, control, *drawn(1)]
    assert due(rows, 500.0) == []
    heard = msgspec.structs.replace(unheard, started_s=5.0)
    assert due([heard, control, *drawn(1)], 500.0) == [0, 1]
    halt = BoardHalt(target=treated.target, action="ROLLBACK", reason="bad", at_s=10.0)
    run = msgspec.structs.replace(rollout(horizonSeconds=100), halted=(halt,))
    assert [number for number, _ in due_blocks(run, rows, GateMemory(), 500.0)] == [0, 1]


def test_devices_outside_blocks_are_in_none_and_a_graduated_control_stays_in_its_own() -> None:
    treated, control = drawn(0)
    graduated = msgspec.structs.replace(control, arm="graduated", drawn_s=0.0, dispatched_s=500.0, position=90)
    rows = [treated, order(7, None), graduated]
    ((number, members),) = due_blocks(rollout(horizonSeconds=100), rows, GateMemory(), 100.0)
    assert (number, [one.device for one in members]) == (0, [treated.device, control.device])


def test_after_an_outage_the_blocks_come_in_portions() -> None:
    rows = [one for block in range(MOST_BLOCKS + 5) for one in drawn(block)]
    assert due(rows, 100.0) == list(range(MOST_BLOCKS))
    assert due(rows, 100.0, next_block=MOST_BLOCKS) == list(range(MOST_BLOCKS, MOST_BLOCKS + 5))


# What a block says


def seen(is_treated: bool, **fields: Any) -> Observation:
    given: dict[str, Any] = {"device": "d", "is_treated": is_treated, "heard": True, "requests": 100}
    return Observation(**(given | fields))


def block(number: int, *observations: Observation, target: str = "t") -> Block:
    return Block(number=number, target=target, observations=observations)


def values(metric: Metric, *observations: Observation) -> tuple[float, ...]:
    return COMPARISONS[metric].values(block(0, *observations))


@pytest.mark.parametrize(
    ("metric", "treated", "control", "expected"),
    [
        ("crashes", {"crashes": 3}, {}, (1, 1, 0, 0)),
        ("silence", {}, {"heard": False}, (1, 0, 0, 1)),
        ("errors", {"failures": 7}, {"failures": 2}, (0.05, 0.07, 0.02)),
        ("errors", {"failures": 900}, {}, (1, 1, 0)),  # a device that lies
        ("errors", {"requests": 0}, {}, ()),
        ("latency", {"latency_us_sum": 5000}, {"latency_us_sum": 4000}, (50, 40)),
        ("energy", {"energy_uj_sum": 9, "energy_requests": 2}, {"energy_uj_sum": 9, "energy_requests": 3}, (4.5, 3)),
        ("energy", {}, {"energy_uj_sum": 9, "energy_requests": 3}, ()),
        ("accuracy", {"accuracy": 0.8}, {"accuracy": 0.9}, (0.1, 0.2, 0.1)),
        ("accuracy", {"accuracy": 0.8}, {}, ()),
        ("labels", {"labelled_accuracy": -0.2}, {"labelled_accuracy": 1.3}, (1, 1, 0)),  # estimates may leave [0, 1]
        ("disagreement", {"shadow_rows": 50, "shadow_disagreements": 5}, {}, (0.1,)),
        (
            "disagreement",
            {"shadow_rows": 50, "shadow_disagreements": 5},
            {"shadow_rows": 50, "shadow_disagreements": 1},
            (0.08,),
        ),
        ("disagreement", {}, {"shadow_rows": 50, "shadow_disagreements": 1}, ()),
    ],
)
def test_what_a_block_gives_to_each_test(
    metric: Metric, treated: dict[str, Any], control: dict[str, Any], expected: tuple[float, ...]
) -> None:
    assert values(metric, seen(True, **treated), seen(False, **control)) == pytest.approx(expected)


def test_each_device_has_the_same_say_however_much_traffic_it_had() -> None:
    found = values("errors", seen(True, requests=1000), seen(True, requests=10, failures=10), seen(False))
    assert found[0] == 0.5


def test_histograms_become_shares_of_a_fixed_number_of_bins() -> None:
    found = values("outputs", seen(True, outputs=((1, 3), (5,) * 64)), seen(False, outputs=((2, 2), (5,) * 64)))
    assert len(found) == 2 * 2 * BINS
    assert found[:3] == (0.125, 0.375, 0.0)
    assert found[BINS : 2 * BINS] == (0.5 / BINS,) * BINS
    assert math.fsum(found) == pytest.approx(2)


def test_histograms_that_cannot_be_compared_say_nothing() -> None:
    assert values("inputs", seen(True, inputs=((0, 0),)), seen(False, inputs=((1, 2),))) == ()
    assert values("inputs", seen(True, inputs=((1, 1),)), seen(False, inputs=((1, 2), (3, 4)))) == ()
    many = ((1, 1),) * (MOST_HISTOGRAMS + 3)
    assert len(values("inputs", seen(True, inputs=many), seen(False, inputs=many))) == 2 * BINS * MOST_HISTOGRAMS


# Folding


def draws(seed: int, blocks: int, worse: Callable[[str], bool] = lambda _: False) -> list[Block]:
    """Return blocks of five boards whose devices and sites differ a lot, with or without an effect of the release."""
    draw = random.Random(seed)
    site_level = [draw.gauss(0, 0.08) for _ in range(12)]
    return [
        block(number, *_pair(draw, site_level, worse(FIVE[number % 5])), target=FIVE[number % 5])
        for number in range(blocks)
    ]


def _pair(draw: random.Random, sites: list[float], worse: bool) -> tuple[Observation, Observation]:
    first = draw.random() < 0.5
    return _device(draw, sites, first, worse and first), _device(draw, sites, not first, worse and not first)


def _device(draw: random.Random, sites: list[float], is_treated: bool, is_worse: bool) -> Observation:
    site = draw.choice(sites)
    accuracy = min(1.0, max(0.0, draw.gauss(0.85 + site - (0.15 if is_worse else 0), 0.08)))
    unsure = int(100 * min(1.0, max(0.0, 1 - accuracy)))
    speed = math.exp(draw.gauss(6 + 10 * site, 0.8))
    return seen(
        is_treated,
        heard=draw.random() > 0.05,
        crashes=int(draw.random() < 0.03 + abs(site)),
        failures=int(100 * min(1.0, draw.expovariate(50 / (1 + 9 * abs(site))))),
        latency_us_sum=int(100 * speed),
        energy_uj_sum=int(70 * speed),
        energy_requests=100,
        accuracy=round(accuracy, 6),
        labelled_accuracy=accuracy + draw.gauss(0, 0.3),
        shadow_rows=50 if is_treated else 0,
        shadow_disagreements=draw.randrange(2) if is_treated else 0,
        inputs=(tuple(draw.randrange(1, 20) for _ in range(6)),),
        outputs=((unsure, 100 - unsure), tuple(draw.randrange(1, 20) for _ in range(4))),
    )


def after(run: Rollout, blocks: list[Block]) -> GateMemory:
    return learn(run, GateMemory(), blocks)[0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.data())
def test_the_recorded_values_give_the_same_evidence_bit_for_bit(seed: int, count: int, data: st.DataObject) -> None:
    """However the blocks are cut into ticks, and through the JSON of the audit log."""
    run = rollout(boards=FIVE)
    blocks = draws(seed, count)
    memory = GateMemory()
    learnt: list[BlockOutcome] = []
    while memory.next_block < count:
        end = data.draw(st.integers(memory.next_block + 1, count))
        memory, new = learn(run, memory, blocks[max(0, memory.next_block - 1) : end])
        learnt += new
    read = msgspec.json.decode(msgspec.json.encode(learnt), type=list[BlockOutcome])
    again = GateMemory()
    for one in read:
        again = fold(run, again, one)
    assert again == memory == after(run, blocks)
    assert msgspec.json.decode(msgspec.json.encode(memory), type=GateMemory) == memory


def test_a_block_is_learnt_once_and_never_after_a_gap() -> None:
    run, blocks = rollout(boards=FIVE), draws(1, 6)
    memory, learnt = learn(run, GateMemory(), blocks[:3])
    assert [one.number for one in learnt] == [0, 1, 2]
    assert learn(run, memory, blocks[:3]) == (memory, ())
    assert learn(run, memory, blocks[4:]) == (memory, ())
    assert learn(run, memory, blocks[::-1])[0] == after(run, blocks)


# What the gates say


def stops(statuses: tuple[GateStatus, ...]) -> set[tuple[str | None, str]]:
    return {(one.target, one.gate) for one in statuses if one.action == "ROLLBACK"}


def test_a_bad_build_of_one_board_is_found_and_the_others_go_on() -> None:
    run = rollout(boards=FIVE)
    statuses = control_gates(run, after(run, draws(3, 1200, lambda board: board == "c")), True)
    found = stops(statuses)
    assert {target for target, _ in found} == {"c"}
    assert {("c", "accuracy"), ("c", "all")} <= found
    (accuracy,) = [one for one in statuses if (one.target, one.gate) == ("c", "accuracy")]
    assert accuracy.numbers["blocks"] == 240
    assert float(str(accuracy.numbers["low"])) < 15 < float(str(accuracy.numbers["high"])) + 3
    assert float(str(accuracy.numbers["e_value"])) >= float(str(accuracy.numbers["e_threshold"])) > 20
    assert "c: accuracy: accuracy worse than the controls" in accuracy.reason
    verdict = decide(run, statuses)
    assert ([one.target for one in verdict.boards], verdict.whole) == (["c"], None)


def test_metrics_that_lean_together_stop_where_none_alone_would() -> None:
    def blocks(count: int) -> list[Block]:
        both = {"failures": 60, "accuracy": 0.4, "labelled_accuracy": 0.4}
        fine = {"failures": 0, "accuracy": 0.9, "labelled_accuracy": 0.9}
        return [block(n, seen(True, **both), seen(False, **fine)) for n in range(count)]

    run = rollout()
    first = next(n for n in range(1, 60) if stops(control_gates(run, after(run, blocks(n)), True)))
    assert stops(control_gates(run, after(run, blocks(first)), True)) == {("t", "all")}


def worse_in(share: float, loss: float, blocks: int) -> list[Block]:
    """Return blocks in this share of which the treated device loses so much accuracy."""
    return [
        block(
            number,
            seen(True, accuracy=0.9 - loss * (number * share % 1 < share)),
            seen(False, accuracy=0.9),
        )
        for number in range(blocks)
    ]


def test_a_small_loss_of_all_is_found_by_its_sign_and_a_large_one_of_a_few_by_its_mean() -> None:
    run = rollout(controlGate={"metrics": [{"metric": "accuracy"}]})

    def is_stopped(blocks: list[Block]) -> bool:
        return bool(stops(control_gates(run, after(run, blocks), True)))

    assert is_stopped(worse_in(1.0, 0.03, 30))
    assert is_stopped(worse_in(0.3, 0.9, 60))
    assert not is_stopped(worse_in(1.0, 0.019, 300)), "less than twice the limit, and too little for the mean"
    assert not is_stopped(worse_in(0.3, 0.02, 300)), "below the limit on average"


def test_the_mean_of_a_board_starts_at_one_and_moves_by_each_metric_s_share() -> None:
    run = rollout()
    nothing = block(0, seen(True, requests=0), seen(False, requests=0))
    assert after(run, [nothing]).tests["t/all"].log_wealth[0] == pytest.approx(0)
    tests = after(run, [block(0, seen(True, accuracy=0.2), seen(False, accuracy=0.9))]).tests
    gains = [math.exp(log_e_now(test)) - 1 for key, test in tests.items() if key != "t/all"]
    assert math.exp(log_e_now(tests["t/all"])) - 1 == pytest.approx(math.fsum(gains) / 8)


def test_while_blocks_are_observed_the_gates_wait() -> None:
    run = rollout(boards=FIVE)
    (status,) = control_gates(run, GateMemory(), True, 10)
    assert (status.outcome, status.reason) == ("wait", "10 of 10 blocks of devices and controls are still observed")
    memory = after(run, draws(1, 10))
    assert {one.outcome for one in control_gates(run, memory, True, 11)} == {"wait"}
    assert {one.outcome for one in control_gates(run, memory, False, 10)} == {"wait"}
    assert "wait" not in {one.outcome for one in control_gates(run, memory, True, 10)}
    assert control_gates(run, GateMemory(), True) == (), "no controls, no gates"


def different(field: str, blocks: int, share: int) -> list[Block]:
    """Return blocks whose treated devices fill one bin of a histogram more often."""
    draw = random.Random(1)

    def counts(extra: int) -> tuple[tuple[int, ...], ...]:
        return ((draw.randrange(40, 60) + extra, draw.randrange(40, 60), draw.randrange(40, 60)),)

    return [block(n, seen(True, **{field: counts(share)}), seen(False, **{field: counts(0)})) for n in range(blocks)]


@pytest.mark.parametrize(("action", "expected"), [("CONTINUE", None), ("PAUSE", "PAUSE")])
def test_arms_that_see_different_inputs_warn_and_stop_nothing(action: str, expected: str | None) -> None:
    run = rollout(controlGate={"onInconclusive": action})
    (inputs,) = [
        one for one in control_gates(run, after(run, different("inputs", 300, 60)), True) if one.gate == "inputs"
    ]
    assert (inputs.outcome, inputs.action) == ("inconclusive", expected)
    assert "different inputs" in inputs.reason


def test_outputs_stop_a_release_only_by_a_change_of_practical_size() -> None:
    run = rollout()
    large, small = (
        next(
            one
            for one in control_gates(run, after(run, different("outputs", 300, extra)), True)
            if one.gate == "outputs"
        )
        for extra in (80, 12)
    )
    assert (large.outcome, large.action) == ("fail", "ROLLBACK")
    assert float(str(large.numbers["estimate"])) > 0.1
    assert (small.outcome, small.action) == ("pass", None)
    assert "less than the limit" in small.reason


def test_only_the_metrics_of_the_policy_are_tested_with_their_limits() -> None:
    def status(max_loss: float) -> list[GateStatus]:
        given = {"metrics": [{"metric": "accuracy", "maxLoss": max_loss}]}
        run = rollout(boards=FIVE, controlGate=given)
        return list(control_gates(run, after(run, draws(3, 1200, lambda board: board == "c")), True))

    assert {one.gate for one in status(1)} == {"accuracy", "all"}
    assert any(one.action for one in status(1))
    assert not any(one.action for one in status(40))


def test_blocks_are_counted_by_board() -> None:
    memory = after(rollout(boards=FIVE), draws(1, 7))
    assert [blocks_of(memory, board) for board in (*FIVE, "none")] == [2, 2, 1, 1, 1, 0]


# The promise


def test_a_release_that_changes_nothing_is_stopped_less_often_than_alpha_with_all_gates_on() -> None:
    """2 % failures, boards, devices and sites that differ, 5 % silence: looked at after every tenth of the rollout."""
    runs = 100
    false_stops = sum(_is_stopped(seed) for seed in range(runs))
    assert false_stops / runs <= 0.05


def _is_stopped(seed: int) -> bool:
    draw = random.Random(f"failures {seed}")
    run = rollout(boards=FIVE)
    blocks, memory = draws(seed, 300), GateMemory()
    rows = [order(n, None, target=FIVE[n // 2 % 5], block=n // 2) for n in range(0, 600, 2)]
    results: list[Outcome] = ["failed" if draw.random() < 0.02 else "succeeded" for _ in rows]
    for end in range(30, 301, 30):
        memory, _ = learn(run, memory, blocks[memory.next_block : end])
        statuses = (
            *failure_gates(run, rows[:end], results[:end], wave_ended=False),
            *control_gates(run, memory, True),
        )
        verdict = decide(run, statuses)
        if verdict.whole is not None or verdict.boards:
            return True
    return False


def test_all_metrics_have_a_test_and_a_weight() -> None:
    assert set(METRICS) == set(COMPARISONS) == set(Metric.__args__)  # type: ignore[attr-defined]  # of a Literal
