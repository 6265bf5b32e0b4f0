"""The boards' comparisons as one: fair while each board is within its limit, quick where all boards lose a little."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.fleet.core.gates.control import control_gates, learn
from edgewright.fleet.core.gates.over_boards import LEFT_OUT, pooled_gates
from edgewright.fleet.core.gates.status import GateStatus
from edgewright.fleet.core.gates.verdict import Verdict, decide
from edgewright.fleet.core.gates.weights import weights_of
from edgewright.fleet.core.observations import Block, Evidence, GateMemory, Observation
from edgewright.fleet.core.rows import BoardHalt, Rollout
from edgewright.fleet.core.sequential import mean, sign

from ..order_rows import rollout

FIVE = ("a", "b", "c", "d", "e")


def seen(is_treated: bool, **fields: Any) -> Observation:
    given: dict[str, Any] = {"device": "d", "is_treated": is_treated, "heard": True, "requests": 100}
    return Observation(**(given | fields))


def release(boards: Sequence[str] = FIVE, metrics: Sequence[str] = ("accuracy",), **row: Any) -> Rollout:
    given = {"metrics": [{"metric": metric} for metric in metrics]}
    return rollout(boards=tuple(boards), controlGate=given, row=row)


def losing(loss_of: dict[str, float], blocks: int, seed: int = 1) -> list[Block]:
    """Return blocks of two devices, the boards in turn, in which each board loses so much accuracy."""
    draw = random.Random(seed)
    boards = sorted(loss_of)

    def pair(board: str) -> tuple[Observation, Observation]:
        treated, control = (min(1.0, draw.gauss(0.9, 0.05)) for _ in range(2))
        return seen(True, accuracy=treated - loss_of[board]), seen(False, accuracy=control)

    targets = [boards[number % len(boards)] for number in range(blocks)]
    return [Block(number=n, target=target, observations=pair(target)) for n, target in enumerate(targets)]


def after(run: Rollout, blocks: Sequence[Block]) -> GateMemory:
    memory = GateMemory()
    while memory.next_block < len(blocks):
        memory, _ = learn(run, memory, blocks[memory.next_block : memory.next_block + 500])
    return memory


def over_all(statuses: Sequence[GateStatus]) -> dict[str, GateStatus]:
    return {one.gate: one for one in statuses if one.target is None}


def number(status: GateStatus, name: str) -> float:
    return float(str(status.numbers[name]))


def verdict_after(run: Rollout, blocks: Sequence[Block]) -> Verdict:
    return decide(run, control_gates(run, after(run, blocks), True))


# Fair


class Device(msgspec.Struct, frozen=True):
    """What one device would do with the old release, and with the new one."""

    old: float
    new: float
    crashes: bool
    latency_us: int

    def seen(self, is_treated: bool) -> Observation:
        return seen(
            is_treated,
            accuracy=self.new if is_treated else self.old,
            crashes=int(self.crashes),
            latency_us_sum=100 * self.latency_us,
        )


@st.composite
def harmless(draw: st.DrawFn) -> list[tuple[str, list[Device], int]]:
    """Blocks of boards that differ in all, and lose at most a point of accuracy on any device."""
    blocks = []
    for target in draw(st.lists(st.sampled_from("abc"), min_size=2, max_size=4)):
        size = draw(st.integers(2, 3))
        devices = []
        for _ in range(size):
            old = draw(st.floats(0, 1))
            lost = draw(st.sampled_from([0.01, 0.01, 0.0, -0.3]))
            new = min(1.0, max(0.0, old - lost))
            devices.append(Device(old, new, draw(st.booleans()), draw(st.integers(1, 10_000))))
        blocks.append((target, devices, draw(st.integers(1, size - 1))))
    return blocks


def paths(
    run: Rollout, blocks: list[tuple[str, list[Device], int]], halts: Sequence[Sequence[str]] = ((),)
) -> list[list[dict[str, float]]]:
    """Return the e-values over all boards after each block, for every way in which the coin may have drawn the arms.

    Of several choices of boards to halt: by the one, at each look, that makes most of each.
    """
    coins = [list(itertools.combinations(range(len(devices)), treated)) for _, devices, treated in blocks]
    found = []
    for chosen in itertools.product(*coins):
        memory, path = GateMemory(), []
        for place, ((target, devices, _), arm) in enumerate(zip(blocks, chosen, strict=True)):
            observations = tuple(one.seen(index in arm) for index, one in enumerate(devices))
            block = Block(number=place, target=target, observations=observations)
            memory, _ = learn(run, memory, [block])
            said = [one for halted in halts for one in pooled_gates(run, memory, left_out=halted, waiting=True)]
            path.append({gate: max(number(x, "e_value") for x in said if x.gate == gate) for gate in over_all(said)})
        found.append(path)
    return found


@settings(max_examples=60, deadline=None)
@given(blocks=harmless(), level=st.floats(1.0, 3.0))
def test_it_gains_nothing_whatever_boards_and_blocks_are_like_and_whenever_one_stops(
    blocks: list[tuple[str, list[Device], int]], level: float
) -> None:
    """Exactly, over all draws of the arms: at the end, and where one stops as soon as E is at a level."""
    drawn = paths(release("abc", ("accuracy", "crashes", "latency")), blocks)
    for gate in ("accuracy", "crashes", "latency", "all"):
        ends = [path[-1].get(gate, 1.0) for path in drawn]
        stopped = [
            next((found[gate] for found in path if found.get(gate, 0.0) >= level), end)
            for path, end in zip(drawn, ends, strict=True)
        ]
        assert sum(ends) / len(ends) <= 1 + 1e-9
        assert sum(stopped) / len(stopped) <= 1 + 1e-9


@settings(max_examples=40, deadline=None)
@given(blocks=harmless(), level=st.floats(1.0, 3.0))
def test_who_halts_the_boards_that_speak_best_of_the_release_gains_nothing(
    blocks: list[tuple[str, list[Device], int]], level: float
) -> None:
    drawn = paths(release("abc", ("accuracy", "crashes")), blocks, halts=((), "a", "b", "c"))
    for gate in ("accuracy", "crashes", "all"):
        ends = [path[-1].get(gate, 1.0) for path in drawn]
        stopped = [
            next((found[gate] for found in path if found.get(gate, 0.0) >= level), end)
            for path, end in zip(drawn, ends, strict=True)
        ]
        assert sum(ends) / len(ends) <= 1 + 1e-9
        assert sum(stopped) / len(stopped) <= 1 + 1e-9


def test_a_halted_board_lowers_the_evidence_of_the_others_or_leaves_it_as_it_is() -> None:
    run = release("abc")

    def e_value(a: float, left_out: Sequence[str] = ("a",)) -> float:
        blocks = losing({"a": a, "b": 0.05, "c": 0.05}, 120)
        return number(
            over_all(pooled_gates(run, after(run, blocks), left_out=left_out, waiting=True))["all"], "e_value"
        )

    alone = [block for block in losing({"a": 0.0, "b": 0.05, "c": 0.05}, 120) if block.target != "a"]
    renumbered = [msgspec.structs.replace(block, number=place) for place, block in enumerate(alone)]
    others = number(over_all(pooled_gates(run, after(run, renumbered), left_out=(), waiting=True))["all"], "e_value")
    assert e_value(0.6) == pytest.approx(others, rel=0.01), "it lost: the others stand by themselves"
    assert e_value(-0.3) <= e_value(-0.3, ()) * (1 + 1e-9) < others, "it won: they are no better than with it"


@given(seed=st.integers(0, 2**32), blocks=st.integers(2, 30))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_blocks_changes_nothing(seed: int, blocks: int) -> None:
    run = release()
    drawn = losing({"a": 0.1, "b": 0.0, "c": -0.05}, blocks, seed)
    shuffled = random.Random(seed).sample(drawn, len(drawn))
    again = [msgspec.structs.replace(block, number=place) for place, block in enumerate(shuffled)]
    one, other = (pooled_gates(run, after(run, each), left_out=(), waiting=True) for each in (drawn, again))
    assert [number(x, "e_value") for x in one] == pytest.approx([number(x, "e_value") for x in other])


@given(seed=st.integers(0, 2**32), blocks=st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_it_is_the_mean_over_the_bets_of_what_each_has_won_on_all_blocks(seed: int, blocks: int) -> None:
    """An oracle that knows nothing of boards or of wealth in logarithms."""
    run = release()
    drawn = losing({"a": 0.1, "b": 0.02, "c": 0.0}, blocks, seed)
    by_mean = [math.prod(1 + stake / 1.01 * (_lost(block) - 0.01) for block in drawn) for stake in mean.STAKES]
    by_sign = [math.prod(1 + bet if _lost(block) > 0.02 else 1 - bet for block in drawn) for bet in sign.BETS]
    won = by_mean + by_sign
    found = over_all(pooled_gates(run, after(run, drawn), left_out=(), waiting=True))
    assert number(found["accuracy"], "e_value") == pytest.approx(sum(won) / len(won), rel=1e-6)
    assert number(found["all"], "e_value") == pytest.approx(sum(won) / len(won), rel=1e-6)
    assert number(found["all"], "blocks") == blocks


def _lost(block: Block) -> float:
    treated, control = (float(str(one.accuracy)) for one in block.observations)
    return round((1 - treated) - (1 - control), 9)


@pytest.mark.parametrize("losses", [(0.0,) * 5, (0.01,) * 5, (0.01, 0.0, -0.05, 0.01, 0.005)])
def test_boards_within_the_limit_are_let_go_on(losses: tuple[float, ...]) -> None:
    run = release()
    for seed in range(5):
        blocks = losing(dict(zip(FIVE, losses, strict=True)), 600, seed)
        for looked in range(100, 601, 100):
            assert verdict_after(run, blocks[:looked]).whole is None


# Quick


def test_a_small_loss_on_all_boards_stops_the_rollout_where_no_board_s_own_test_would() -> None:
    run = release()
    blocks = losing(dict.fromkeys(FIVE, 0.05), 1000)
    first = next(n for n in range(20, 1000, 20) if verdict_after(run, blocks[:n]) != Verdict())
    verdict = verdict_after(run, blocks[:first])
    assert verdict.boards == ()
    assert verdict.whole is not None
    assert (verdict.whole.gate, verdict.whole.target, verdict.whole.action) == ("accuracy", None, "ROLLBACK")
    assert "all boards: accuracy: accuracy worse than the controls" in verdict.whole.reason
    apart = msgspec.structs.replace(run, gate_design=1)
    assert verdict_after(apart, blocks[: 3 * first]) == Verdict(), "each board by itself takes more than three times"


def test_it_stops_at_its_share_of_alpha() -> None:
    run = release()
    (accuracy, together) = pooled_gates(
        run, after(run, losing(dict.fromkeys(FIVE, 0.0), 10)), left_out=(), waiting=True
    )
    weight = weights_of(run).pooled_metric
    assert weight == pytest.approx(0.15)
    for status in (accuracy, together):
        assert number(status, "e_threshold") == pytest.approx(1 / (0.05 * weight))
        assert (status.weight, status.outcome) == (weight, "wait")


# Whose loss


def test_one_board_s_loss_stops_that_board_at_every_look_and_never_the_rollout() -> None:
    for seed, loss in ((1, 0.5), (2, 0.3), (3, 0.15)):
        run = release()
        blocks = losing(dict.fromkeys("abde", 0.0) | {"c": loss}, 700, seed)
        halted = False
        for looked in range(10, 701, 10):
            verdict = verdict_after(run, blocks[:looked])
            assert verdict.whole is None
            assert [one.target for one in verdict.boards] in ([], ["c"])
            halted |= bool(verdict.boards)
        assert halted


def one_sided() -> list[Block]:
    """Blocks nearly all of one board, which loses all: so the others cannot dilute it."""
    pairs = [("a", 0.6)] * 30 + [("b", 0.0), ("c", 0.0)]
    return [
        Block(number=n, target=target, observations=(seen(True, accuracy=0.9 - loss), seen(False, accuracy=0.9)))
        for n, (target, loss) in enumerate(pairs)
    ]


def test_a_proof_that_hangs_on_one_board_stops_nothing_and_holds_nobody_up() -> None:
    run = release("abc")
    memory = after(run, one_sided())
    for waiting, outcome in ((True, "wait"), (False, "pass")):
        for status in pooled_gates(run, memory, left_out=(), waiting=waiting):
            assert number(status, "e_value") >= number(status, "e_threshold"), "else it shows nothing"
            assert (status.outcome, status.action, status.numbers["without"]) == (outcome, None, "a")
            assert number(status, "e_value_without") < math.sqrt(number(status, "e_threshold"))
            assert "it hangs on a, whose own tests have the say" in status.reason
    assert [one.target for one in decide(run, control_gates(run, memory, True)).boards] == ["a"]


def with_others_at(log_e: float) -> tuple[Rollout, GateMemory]:
    """Board a has all but proven it by itself; b, beside it, has so much."""
    run = release("ab")
    log_e_of = {"a": 12.0, "b": log_e}
    tests = {
        f"{board}/{name}": Evidence(log_wealth=(value,) * 24, peak=value, steps=20)
        for board, value in log_e_of.items()
        for name in ("accuracy", "all")
    }
    return run, GateMemory(next_block=40, tests=tests)


@pytest.mark.parametrize(("share", "outcome"), [(0.51, "fail"), (0.9, "fail"), (0.49, "pass"), (0.2, "pass")])
def test_the_others_are_to_be_half_of_the_way_there(share: float, outcome: str) -> None:
    """To the very threshold: root of 1 / (alpha * weight), neither more nor less."""
    threshold = math.log(1 / (0.05 * 0.15))
    run, memory = with_others_at(share * threshold)
    for status in pooled_gates(run, memory, left_out=(), waiting=False):
        assert (status.outcome, status.numbers["without"]) == (outcome, "a")
        assert number(status, "e_value_without") == pytest.approx(math.exp(share * threshold))
        assert number(status, "e_value") == pytest.approx(math.exp(12 + share * threshold))


def test_a_board_that_was_halted_is_left_out_and_named() -> None:
    run = release("abc", halted=(BoardHalt(target="a", action="ROLLBACK", reason="bad", at_s=0.0),))
    memory = after(run, one_sided())
    for status in over_all(control_gates(run, memory, True)).values():
        assert (status.numbers["blocks"], status.numbers[LEFT_OUT]) == (2, "a")
        assert status.outcome == "pass"


@pytest.mark.parametrize(("boards", "left_out"), [("a", ()), ("ab", ("a",)), ("abc", ("a", "c")), ("abz", ("a",))])
def test_it_needs_two_boards_that_go_on_and_had_blocks(boards: str, left_out: tuple[str, ...]) -> None:
    run = release(boards)
    assert pooled_gates(run, after(run, one_sided()), left_out=left_out, waiting=True) == ()


def test_a_rollout_that_began_without_it_does_not_get_it() -> None:
    run = release("abc", gate_design=1)
    assert over_all(control_gates(run, after(run, one_sided()), True)) == {}


def test_it_goes_on_from_a_memory_that_was_stored_before() -> None:
    """Nothing of it is stored: what boards know is all it needs."""
    run = release()
    blocks = losing(dict.fromkeys(FIVE, 0.02), 200)
    stored = msgspec.json.encode(after(msgspec.structs.replace(run, gate_design=1), blocks[:100]))
    memory = msgspec.json.decode(stored, type=GateMemory)
    for block in blocks[100:]:
        memory, _ = learn(run, memory, [block])
    assert memory == after(run, blocks)


# What it says besides


def test_inputs_and_outputs() -> None:
    """Answers stop the rollout only by a change of practical size, and inputs are each board's to warn of."""

    def blocks(shift: int) -> list[Block]:
        draw = random.Random(1)

        def counts(extra: int) -> tuple[tuple[int, ...], ...]:
            return ((draw.randrange(40, 60) + extra, draw.randrange(40, 60), draw.randrange(40, 60)),)

        return [
            Block(
                number=n,
                target=FIVE[n % 5],
                observations=(
                    seen(True, outputs=counts(shift), inputs=counts(shift)),
                    seen(False, outputs=counts(0), inputs=counts(0)),
                ),
            )
            for n in range(500)
        ]

    run = release(metrics=("inputs", "outputs"))
    large, small = (over_all(control_gates(run, after(run, blocks(shift)), True)) for shift in (80, 12))
    assert set(large) == {"outputs"}
    assert (large["outputs"].outcome, large["outputs"].action) == ("fail", "ROLLBACK")
    assert (small["outputs"].outcome, small["outputs"].action) == ("pass", None)
    assert "less than the limit" in small["outputs"].reason


def test_a_lean_of_all_boards_asks_for_a_person_at_the_end_of_a_wave() -> None:
    run = release()
    memory = after(run, losing(dict.fromkeys(FIVE, 0.05), 60))
    for asks in (None, "PAUSE"):
        gate = msgspec.structs.replace(run.policy.control_gate, on_inconclusive=asks or "CONTINUE")
        policy = msgspec.structs.replace(run.policy, control_gate=gate)
        together = over_all(control_gates(msgspec.structs.replace(run, policy=policy), memory, True))["all"]
        assert 1 < number(together, "e_value") < number(together, "e_threshold"), "else it shows nothing"
        assert (together.outcome, together.action) == ("inconclusive", asks)


def test_what_is_still_observed_is_said_once() -> None:
    run = release()
    memory = after(run, losing(dict.fromkeys(FIVE, 0.0), 20))
    said = [one for one in control_gates(run, memory, False, 25) if one.target is None and one.gate == "all"]
    assert len(said) == 1
    assert said[0].outcome == "wait"
    assert said[0].reason.endswith("5 of 25 blocks of devices and controls are still observed")
