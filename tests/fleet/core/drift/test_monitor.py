"""The standing monitor: hysteresis, baselines that follow slow change and no jump, and what each metric can see."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.reference import Reference
from edgewright.fleet.core.drift.alert_rules import AlertRule, RuleError, parse_rule, rule_from
from edgewright.fleet.core.drift.measures import Judged
from edgewright.fleet.core.drift.monitor import AlertState, Change, Group, Window, advance, message_of, observe
from edgewright.fleet.core.sums.windows import Totals

from ..conftest import CONFIDENCE_SHARES, CONFIDENCE_TABLE, INPUT_SHARES, Traffic

SHIFTED = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.19, 0.21)
HOUR_S = 3600


def rule_of(metric: str = "inputs", **changes: Any) -> AlertRule:
    return rule_from({"name": "watch", "model": "m", "metric": metric} | changes, where="test")


def run(rule: AlertRule, reference: Reference, windows: Iterable[Totals], *, first_s: int = 0) -> list[Change | None]:
    state, changes = AlertState(), []
    for number, totals in enumerate(windows):
        start_s = first_s + number * rule.window_seconds
        state, change = observe(rule, state, Window(start_s=start_s, totals=totals, reference=reference, bins="b"))
        assert state.next_s == start_s + rule.window_seconds
        changes.append(change)
    return changes


def kinds(changes: Iterable[Change | None]) -> list[str]:
    return [change.kind[0] if change else "." for change in changes]


def judged(value: float, p_value: float = 0.0) -> Judged:
    return Judged(value=value, p_value=p_value, samples=500, baseline_samples=500)


def drive(rule: AlertRule, values: Iterable[float | None]) -> str:
    state, found = AlertState(), []
    for number, value in enumerate(values):
        one = None if value is None else judged(value)
        state, change = advance(rule, state, number * rule.window_seconds, one, None)
        found.append(change)
    return "".join(kinds(found))


def test_an_alert_is_raised_after_some_windows_and_cleared_after_some_below_a_lower_limit() -> None:
    rule = rule_of(raiseAbove=0.2, clearBelow=0.1, raiseAfter=3, clearAfter=2)
    assert drive(rule, [0.3, 0.3, 0.1, 0.3, 0.3, 0.3, 0.15, 0.05, 0.15, 0.05, 0.05, 0.3]) == ".....r....c."
    assert drive(rule, [0.3, None, 0.3, None, None, 0.3, 0.05, None, 0.05]) == ".....r..c"
    assert drive(rule_of(raiseAfter=1, clearAfter=1), [0.2, 0.1, 0.0999, 0.2]) == "r.cr"


@given(st.lists(st.one_of(st.none(), st.floats(0, 0.5)), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_raised_and_cleared_take_turns_and_each_has_its_run_of_windows(
    values: list[float | None], up: int, down: int
) -> None:
    rule = rule_of(raiseAbove=0.3, clearBelow=0.2, raiseAfter=up, clearAfter=down)
    found = drive(rule, values)
    changes = found.replace(".", "")
    assert changes == ("rc" * len(changes))[: len(changes)]
    for place, kind in enumerate(found):
        seen = [value for value in values[: place + 1] if value is not None]
        if kind == "r":
            assert all(value >= 0.3 for value in seen[-up:])
        if kind == "c":
            assert all(value < 0.2 for value in seen[-down:])


def test_a_difference_that_chance_explains_is_not_above() -> None:
    rule = rule_of(raiseAfter=1)
    state, change = advance(rule, AlertState(), 0, judged(0.9, p_value=0.01), None)
    assert change is None
    assert state.above == 0


def test_silence_notes_a_second_alert_and_tells_nobody_of_its_end() -> None:
    rule = rule_of(raiseAfter=1, clearAfter=1, silenceSeconds=3 * HOUR_S)
    state, found = AlertState(), []
    for number, value in enumerate([0.5, 0.0, 0.5, 0.0, 0.5, 0.0]):
        state, change = advance(rule, state, number * HOUR_S, judged(value), None)
        assert change is not None
        found.append((change.kind, change.silenced))
    assert found[:4] == [("raised", False), ("cleared", False), ("raised", True), ("cleared", True)]
    assert found[4:] == [("raised", False), ("cleared", False)]


def test_input_drift_is_raised_and_a_healthy_week_is_silent(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(1)
    reference = draw.calibrated(5000)
    assert not any(run(rule_of(), reference, (draw.totals(1000) for _ in range(168))))
    changes = run(
        rule_of(),
        reference,
        [draw.totals(1000, inputs=SHIFTED if 5 <= number < 10 else INPUT_SHARES) for number in range(15)],
    )
    assert "".join(kinds(changes)) == ".......r....c.."
    raised = next(change for change in changes if change)
    assert raised.judged.feature == "x mean"
    assert "PSI of x mean" in message_of(rule_of(), Group(board="pi"), raised)
    assert "board pi" in message_of(rule_of(), Group(board="pi"), raised)


@pytest.mark.parametrize("distance", ["psi", "ks", "js"])
def test_every_distance_sees_the_shift_and_few_samples_are_not_judged(
    traffic: Callable[[int], Traffic], distance: str
) -> None:
    draw = traffic(2)
    reference = draw.calibrated(5000)
    rule = rule_of(distance=distance, raiseAbove=0.15)
    assert any(run(rule, reference, [draw.totals(1000, inputs=SHIFTED) for _ in range(3)]))
    assert not any(run(rule, reference, [draw.totals(100, inputs=SHIFTED) for _ in range(30)]))


def blend(share: float) -> tuple[float, ...]:
    return tuple((1 - share) * a + share * b for a, b in zip(INPUT_SHARES, SHIFTED, strict=True))


def test_a_trailing_baseline_follows_slow_change_and_no_jump(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(3)
    reference = draw.calibrated(5000)
    trailing = rule_of(baseline="trailing", halfLifeHours=12)
    slow = [draw.totals(2000, inputs=blend(number / 200)) for number in range(200)]
    assert not any(run(trailing, reference, slow))
    assert any(run(rule_of(), reference, slow)), "the reference does not follow: slow drift adds up"
    jump = [draw.totals(2000, inputs=blend(0.0 if number < 50 else 1.0)) for number in range(150)]
    changes = run(trailing, reference, jump)
    assert "".join(kinds(changes)) == "." * 52 + "r" + "." * 97, "frozen: the jump is not learnt while the alert is up"


def test_the_same_hour_of_earlier_days_knows_day_from_night(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(4)
    reference = draw.calibrated(5000)

    def day_and_night(broken_from: int = 10**6) -> list[Totals]:
        return [
            draw.totals(1000, inputs=blend(1.0 if (number % 24 >= 12) != (number >= broken_from) else 0.0))
            for number in range(24 * 6)
        ]

    by_hour = rule_of(baseline="same_hour")
    assert not any(run(by_hour, reference, day_and_night()))
    assert any(run(rule_of(baseline="trailing"), reference, day_and_night()))
    changes = run(by_hour, reference, day_and_night(broken_from=100))
    assert kinds(changes).index("r") == 102


def test_a_window_is_not_compared_with_its_own_hour(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(5)
    rule = rule_of(baseline="same_hour", windowSeconds=300, raiseAfter=1)
    windows = [draw.totals(1000, inputs=INPUT_SHARES if number < 6 else SHIFTED) for number in range(12)]
    assert not any(run(rule, draw.calibrated(), windows)), "on the first day there is nothing to compare with"


def test_other_bins_begin_a_baseline_anew(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(6)
    rule, reference, state = rule_of(baseline="trailing"), draw.calibrated(), AlertState()
    for number, bins in enumerate(["a", "a", "b"]):
        totals = draw.totals(1000)
        window = Window(start_s=number * HOUR_S, totals=totals, reference=reference, bins=bins)
        state, _ = observe(rule, state, window)
    assert state.learnt[0].settled == ()
    assert state.learnt[0].fresh == (totals.histograms[0],)


class Concept:
    """Traffic whose inputs, classes and confidences keep their laws while what is right changes."""

    def __init__(self, draw: Traffic, seed: int) -> None:
        self._draw, self._random = draw, random.Random(seed)

    def totals(self, samples: int, *, right: float | None = None) -> Totals:
        """`right`: share of right answers whatever the confidence; None: as the confidence promises."""
        base = self._draw.totals(samples)
        labelled = tuple(count // 2 for count in base.histograms[2])
        correct = tuple(
            sum(self._random.random() < (promised if right is None else right) for _ in range(count))
            for promised, count in zip(CONFIDENCE_TABLE, labelled, strict=True)
        )
        return Totals(
            devices=1,
            windows=1,
            requests=samples,
            rows=samples,
            histograms=base.histograms,
            labelled=labelled,
            labelled_correct=correct,
        )


def test_concept_drift_is_silent_on_the_inputs_and_loud_on_the_labels(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(7)
    reference = draw.calibrated(5000)
    fleet = Concept(draw, 7)
    before = [fleet.totals(1000) for _ in range(24)]
    after = [fleet.totals(1000, right=0.6) for _ in range(24)]
    for blind in ("inputs", "outputs", "accuracy", "errors"):
        assert not any(run(rule_of(blind), reference, [*before, *after])), f"{blind} cannot see concept drift"
    changes = kinds(run(rule_of("labels"), reference, [*before, *after]))
    assert changes.index("r") == 26, "the third window after the change"
    assert kinds(run(rule_of("labels", baseline="trailing"), reference, [*before, *after])).index("r") == 26


def test_confidence_sees_a_loss_that_shows_in_the_confidences(traffic: Callable[[int], Traffic]) -> None:
    draw = traffic(8)
    reference = draw.calibrated(5000)
    unsure = tuple(reversed(CONFIDENCE_SHARES))
    windows = [draw.totals(1000, confidence=unsure) for _ in range(3)]
    assert kinds(run(rule_of("accuracy"), reference, windows)) == [".", ".", "r"]
    without = traffic(8).calibrated(table=False)
    assert not any(run(rule_of("accuracy"), without, windows)), "no confidence table, nothing to say"


def test_errors_and_latency() -> None:
    reference = Reference(histograms=())

    def served(failures: int, latency_us: int) -> Totals:
        bins = (500, 0) if latency_us < 1000 else (0, 500)
        return Totals(requests=500, failures=failures, rows=500, latency=bins, latency_us_sum=500 * latency_us)

    fine, failing, slow = served(1, 500), served(40, 500), served(1, 2000)
    assert kinds(run(rule_of("errors", raiseAfter=1), reference, [fine, failing])) == [".", "r"]
    trailing = {"baseline": "trailing", "raiseAfter": 1}
    assert kinds(run(rule_of("errors", **trailing), reference, [failing, failing, failing])) == [".", ".", "."]
    assert kinds(run(rule_of("errors", **trailing), reference, [fine, fine, failing])) == [".", ".", "r"]
    assert kinds(run(rule_of("latency", **trailing), reference, [fine, fine, slow])) == [".", ".", "r"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": 1}, "unknown field"),
        ({"windowSeconds": 700}, "divisor of 3600"),
        ({"windowSeconds": 1800, "graceSeconds": 3000}, "graceSeconds"),
        ({"raiseAbove": 0.1, "clearBelow": 0.2}, "never rest"),
        ({"metric": "latency"}, "trailing"),
        ({"baseline": "same_hour", "windowSeconds": 7200}, "at most 3600"),
        ({"by": ["site", "site"]}, "twice"),
        ({"command": {"argv": ["/bin/sh", "-c", "x"]}}, "hooks directory"),
        ({"command": {"argv": ["../x"]}}, "hooks directory"),
        ({"onDrift": {"argv": [".."]}}, "hooks directory"),
        ({"command": {"argv": []}}, "length"),
        ({"name": "a/b"}, "name"),
        ({"alpha": 0}, "alpha"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_with_the_reason(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RuleError, match=says):
        rule_of(**{"metric": "inputs"} | changes)


def test_rules_are_read_from_toml_and_json() -> None:
    toml = 'name = "n"\nmodel = "m"\nmetric = "labels"\nby = ["site"]\n[webhook]\nurl = "https://x"\n'
    rule = parse_rule(toml, kind="toml", where="t")
    assert (rule.upper, rule.lower, rule.by) == (3.0, 1.5, ("site",))
    assert parse_rule('{"name": "n", "model": "m", "metric": "errors"}', kind="json", where="t").upper == 1.0
    for text, kind in (("x = ", "toml"), ("[" * 100_000, "json"), ("{}" + " " * 70_000, "json")):
        with pytest.raises(RuleError):
            parse_rule(text, kind=kind, where="t")  # type: ignore[arg-type]
