"""The policy: defaults that work, strict reading, errors that teach."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.policy.policy import (
    Policy,
    PolicyError,
    parse_policy,
    policy_from,
    policy_to_json,
    read_policy,
    wave_size,
)
from edgewright.fleet.core.policy.selector import parse


def test_an_empty_policy_is_the_default_policy() -> None:
    assert policy_from({}, where="x") == Policy()


def test_toml_and_json_say_the_same() -> None:
    toml = """
    waves = [1, "25%", "rest"]
    horizonSeconds = 120
    [failureGate]
    maxFailurePercentage = 5
    [[abortConfig.criteriaList]]
    failureType = "REJECTED"
    action = "PAUSE"
    thresholdPercentage = 20
    minNumberOfExecutedThings = 4
    """
    policy = parse_policy(toml, kind="toml", where="x")
    assert policy.waves == (1, "25%", "rest")
    assert policy.failure_gate.max_failure_percentage == 5
    assert policy.abort_config.criteria_list[0].action == "PAUSE"
    assert parse_policy(policy_to_json(policy).decode(), kind="json", where="x") == policy


def _retry(kind: str, retries: int) -> dict[str, object]:
    return {"failureType": kind, "numberOfRetries": retries}


def _rate(base: int, factor: float, *, most: int | None = None, **criteria: int | None) -> dict[str, object]:
    rate = {
        "baseRatePerMinute": base,
        "incrementFactor": factor,
        "rateIncreaseCriteria": {"numberOfNotifiedThings": 5, **criteria},
    }
    return {"jobExecutionsRolloutConfig": {"maximumPerMinute": most, "exponentialRate": rate}}


def _windows(start: str, minutes: int = 60) -> list[dict[str, object]]:
    return [{"startTime": start, "durationInMinutes": minutes}]


def _window(start: str, minutes: int = 60) -> dict[str, object]:
    return {"schedulingConfig": {"maintenanceWindows": _windows(start, minutes)}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"wave": [1, "rest"]}, ["`wave`", "did you mean 'waves'?"]),
        ({"colour": 1}, ["`colour`", "known keys:", "onConflict"]),
        ({"failureGate": {"maxFailurePercent": 2}}, ["$.failureGate", "maxFailurePercentage"]),
        ({"alpha": 0}, ["$.alpha", "> 0"]),
        ({"failureGate": {"action": "STOP"}}, ["STOP", "$.failureGate.action"]),
        ({"waves": []}, ["1 to 50", "got 0"]),
        ({"waves": [1, 5]}, ['"rest" must be the last wave']),
        ({"waves": ["rest", "rest"]}, ['"rest" must be the last wave']),
        ({"waves": [0, "rest"]}, ["wave 1 is 0"]),
        ({"waves": ["150%", "rest"]}, ["wave 1 is '150%'"]),
        ({"waves": ["half", "rest"]}, ["wave 1 is 'half'", "10%"]),
        ({"waves": ["²%", "rest"]}, ["wave 1"]),
        ({"horizonSeconds": -1}, ["$.horizonSeconds"]),
        ({"horizonSeconds": 60, "timeoutConfig": {"queuedTimeoutInMinutes": 5}}, ["never apply", "horizonSeconds"]),
        ({"soakSeconds": float("nan")}, ["$.soakSeconds"]),
        ({"horizonSeconds": float("inf")}, ["$.horizonSeconds"]),
        ({"waves": [10**30, "rest"]}, ["wave 1"]),
        ({"waves": [True, "rest"]}, ["$.waves[0]", "bool"]),
        ({"waves": [{"ad": 1}, "rest"]}, ["`ad`", "did you mean 'add'?"]),
        ({"waves": [{"add": "half"}, "rest"]}, ["wave 1 is 'half'"]),
        (
            {"waves": [{"add": "rest", "boards": ["x"]}]},
            ['"rest" must be the last wave', "rest of some boards", "group"],
        ),
        ({"waves": [{"requireApproval": True}, "rest"]}, ['"rest" must be the last wave']),
        ({"waves": [{"add": 1, "boards": ["x", "x"]}, "rest"]}, ["wave 1: boards 'x' is there twice"]),
        ({"waves": [{"add": 1, "sites": [""]}, "rest"]}, ["wave 1: sites: an empty name"]),
        ({"waves": [1, {"add": 1, "where": "bord == 'x'"}, "rest"]}, ["wave 2: where: no field 'bord'", "    ^"]),
        ({"waves": [1] * 50 + ["rest"]}, ["1 to 50", "got 51"]),
        ({"group": 'board = "x"'}, ["group: expected `==`"]),
        ({"targetSelection": "ALL"}, ["'ALL'", "expected one of CONTINUOUS, SNAPSHOT"]),
        ({"controlGate": {"metrics": [{"metric": "speed"}]}}, ["'speed'", "expected one of accuracy, crashes"]),
        (
            {"controlGate": {"metrics": [{"metric": "labels"}, {"metric": "labels"}]}},
            ["metric 'labels' is there twice"],
        ),
        ({"controlGate": {"metrics": [{"metric": "crashes", "maxLoss": 0.5}]}}, ["ratio of odds", "got 0.5"]),
        ({"control": {"fractions": []}}, ["control.fractions", "no controls: [0]"]),
        ({"control": {"fractions": [0.1, 0.5]}}, ["falls from wave to wave", "[0.1, 0.5]"]),
        ({"control": {"fractions": [0.04]}}, ["0.04", "one device in 20"]),
        ({"control": {"fractions": [0.6]}}, ["$.control.fractions[0]", "<= 0.5"]),
        ({"failureGate": {"maxFailurePercentage": 60, "maxSilentPercentage": 40}}, ["could never stop anything"]),
        ({"jobExecutionsRolloutConfig": {"maximumPerMinute": 0}}, ["maximumPerMinute", ">= 1"]),
        ({"jobExecutionsRetryConfig": {"criteriaList": [_retry("FAILED", 1), _retry("FAILED", 2)]}}, ["there twice"]),
        (
            {"jobExecutionsRetryConfig": {"criteriaList": [_retry("ALL", 1), _retry("FAILED", 2)]}},
            ["which one counts?"],
        ),
        ({"jobExecutionsRetryConfig": {"criteriaList": [_retry("TIMED_OUT", 6), _retry("FAILED", 5)]}}, ["11 retries"]),
        ({"jobExecutionsRetryConfig": {"criteriaList": [_retry("REJECTED", 1)]}}, ["ALL, FAILED, TIMED_OUT"]),
        (_rate(0, 1.5), ["baseRatePerMinute", ">= 1"]),
        (_rate(1001, 1.5), ["baseRatePerMinute", "<= 1000"]),
        (_rate(10, 1.0), ["incrementFactor", ">= 1.1"]),
        (_rate(10, 5.1), ["incrementFactor", "<= 5"]),
        (_rate(10, 1.55), ["one decimal (1.5), got 1.55"]),
        (_rate(10, 1.5, most=5), ["more than maximumPerMinute (5)", "never apply"]),
        (_rate(10, 1.5, numberOfSucceededThings=1), ["exactly one", "got both"]),
        (_rate(10, 1.5, numberOfNotifiedThings=None), ["exactly one", "got none"]),
        ({"schedulingConfig": {"startTime": "soon"}}, ["schedulingConfig.startTime", "ISO 8601"]),
        ({"schedulingConfig": {"startTime": "2026-01-01T00:00:00"}}, ["in which zone", "offset"]),
        (
            {"schedulingConfig": {"startTime": "2026-01-01T01:00+02:00", "endTime": "2025-12-31T23:00Z"}},
            ["endTime", "is not after startTime"],
        ),
        ({"schedulingConfig": {"endBehavior": "CANCEL"}}, ["no endTime", "never apply"]),
        (_window("0 2 * *"), ["maintenanceWindows[0].startTime", "got 4 fields", "cron(30 18 * * ? *)"]),
        (_window("0 2 30 2 *"), ["never comes"]),
        (_window("0 2 * * *", 0), ["durationInMinutes", ">= 1"]),
        (_window("0 2 * * *", 1431), ["durationInMinutes", "<= 1430"]),
        ({"schedulingConfig": {"maintenanceWindows": 51 * _windows("0 2 * * *")}}, ["51", "limit is 50"]),
        ([], ["Expected `object`, got `array`"]),
        ("x", ["got `str`"]),
    ],
)
def test_a_bad_policy_says_which_key_and_what_was_expected(data: object, words: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_from(data, where="policy.toml")
    for word in ("policy.toml", *words):
        assert word in str(caught.value)


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    for name, content, word in (
        ("a.yaml", b"{}", ".toml or a .json"),
        ("a.json", b"{", "not JSON"),
        ("a.toml", b"= 3", "not TOML"),
        ("b.toml", b"\xff\xfe", "cannot read"),
        ("b.json", b"[" * 30_000, "nested too deeply"),
        ("c.json", b" " * 40_000, "limit is 32768"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(PolicyError, match=word):
            read_policy(path)
    with pytest.raises(PolicyError, match="cannot read"):
        read_policy(tmp_path / "absent.toml")


@given(share=st.floats(0.1, 100), eligible=st.integers(1, 100_000))
def test_a_share_is_rounded_up_and_never_more_than_all(share: float, eligible: int) -> None:
    size = wave_size(f"{share:.2f}%", eligible)
    assert size is not None
    assert 1 <= size <= eligible
    assert size >= round(share, 2) * eligible / 100 - 1e-6


@given(
    data=st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(st.sampled_from(["waves", "failureGate", "alpha", "zz"]), x, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_data_gives_a_policy_or_one_clear_error(data: object) -> None:
    try:
        policy = policy_from(data, where="x")
    except PolicyError:
        return
    assert msgspec.json.decode(policy_to_json(policy), type=Policy) == policy


def test_a_time_of_toml_s_own_is_told_to_be_put_in_quotes() -> None:
    with pytest.raises(PolicyError, match="in quotes"):
        parse_policy("[schedulingConfig]\nstartTime = 2026-03-29T02:30:00Z", kind="toml", where="x")


@pytest.mark.parametrize(
    "data",
    [
        {"waves": [{"add": "rest", "boards": ["x"]}, {"add": "rest", "sites": ["a"]}, {"where": "epoch > 1"}, "rest"]},
        {"waves": [{"add": 3, "requireApproval": True}, {"add": "rest", "requireApproval": True}]},
        {"control": {"fractions": [0]}},
        {"control": {"fractions": [0.5, 0.25, 0.05, 0]}},
        {"jobExecutionsRetryConfig": {"criteriaList": [_retry("TIMED_OUT", 5), _retry("FAILED", 5)]}},
        _rate(10, 1.1),
        _rate(10, 2.3, most=10, numberOfNotifiedThings=None, numberOfSucceededThings=3),
        {"schedulingConfig": {"startTime": "2026-01-01T01:00+02:00", "endTime": "2025-12-31T23:01Z"}},
        {"schedulingConfig": {"endTime": "2027-01-01T00:00Z", "endBehavior": "FORCE_CANCEL"}},
        _window("cron(0/30 2 ? JAN-MAR SUN#1 *)", 1430),
        {"controlGate": {"metrics": [{"metric": "crashes", "maxLoss": 1.5}, {"metric": "latency"}]}},
    ],
)
def test_what_makes_sense_is_taken_and_is_the_same_after_the_wire(data: object) -> None:
    policy = policy_from(data, where="x")
    assert parse_policy(policy_to_json(policy).decode(), kind="json", where="x") == policy


def test_what_aws_writes_is_read() -> None:
    text = """{
      "targetSelection": "CONTINUOUS",
      "jobExecutionsRolloutConfig": {"maximumPerMinute": 50, "exponentialRate": {"baseRatePerMinute": 50,
        "incrementFactor": 2, "rateIncreaseCriteria": {"numberOfNotifiedThings": 1000}}},
      "abortConfig": {"criteriaList": [{"action": "CANCEL", "failureType": "FAILED", "minNumberOfExecutedThings": 100,
        "thresholdPercentage": 20}]},
      "timeoutConfig": {"inProgressTimeoutInMinutes": 30},
      "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 3}]},
      "schedulingConfig": {"startTime": "2026-12-01T18:00Z", "endTime": "2026-12-24T18:00Z",
        "endBehavior": "STOP_ROLLOUT", "maintenanceWindows": [{"startTime": "cron(30 18 * * ? *)",
        "durationInMinutes": 60}]}
    }"""
    policy = parse_policy(text, kind="json", where="job")
    assert policy.job_executions_retry_config.criteria_list[0].number_of_retries == 3


def test_the_policy_in_the_guide_is_read_and_names_every_key() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "guides" / "rollouts.md").read_text()
    text, waves = (part.split("```")[0] for part in guide.split("## The policy")[1].split("```toml\n")[1:3])
    policy = parse_policy(text, kind="toml", where="guide")
    for key in _every_key(msgspec.inspect.type_info(Policy)):
        assert key in text + waves, f"the guide does not explain {key}"
    assert policy.drift_gate == Policy().drift_gate, "the guide shows the defaults"
    assert policy.failure_gate == Policy().failure_gate
    assert (policy.control, policy.control_gate) == (Policy().control, Policy().control_gate)
    assert policy.rollback == Policy().rollback
    assert (policy.waves, policy.horizon_seconds) == (Policy().waves, Policy().horizon_seconds)
    assert len(parse_policy(waves, kind="toml", where="guide").waves) == 4


def test_the_query_in_the_guide_is_one() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "guides" / "rollouts.md").read_text()
    parse(guide.split("### Queries")[1].split("```")[1])


def _every_key(kind: object) -> set[str]:
    if isinstance(kind, msgspec.inspect.StructType):
        return {field.encode_name for field in kind.fields}.union(*(_every_key(field.type) for field in kind.fields))
    if isinstance(kind, msgspec.inspect.UnionType):
        return set().union(*(_every_key(one) for one in kind.types))
    return _every_key(kind.item_type) if isinstance(kind, msgspec.inspect.VarTupleType) else set()


@pytest.mark.parametrize(("text", "kind"), [("x = " + "9" * 5000, "toml"), ('{"x": ' + "9" * 5000 + "}", "json")])
def test_a_number_of_thousands_of_digits_is_refused(text: str, kind: Literal["toml", "json"]) -> None:
    with pytest.raises(PolicyError, match="not"):
        parse_policy(text, kind=kind, where="policy")


@pytest.mark.parametrize(
    "text", ['{"waves": "\\ud800"}', '{"group": "\\udfff"}', '{"\\ud800": 1}', '{"alpha": ["\\ud800"]}']
)
def test_half_a_character_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(PolicyError, match="half of a character"):
        parse_policy(text, kind="json", where="x")
