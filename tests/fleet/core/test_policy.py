"""The policy: defaults that work, strict reading, errors that teach."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.policy import (
    Policy,
    PolicyError,
    parse_policy,
    policy_from,
    policy_to_json,
    read_policy,
    wave_size,
)


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


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"wave": [1, "rest"]}, ["`wave`", "did you mean 'waves'?"]),
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


def test_the_policy_in_the_guide_is_read_and_names_every_key() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "rollouts.md").read_text()
    text = guide.split("```toml\n")[1].split("```")[0]
    policy = parse_policy(text, kind="toml", where="guide")
    for key in _keys(msgspec.json.decode(policy_to_json(policy))):
        assert key in text, f"the guide does not explain {key}"
    assert policy.drift_gate == Policy().drift_gate, "the guide shows the defaults"
    assert policy.failure_gate == Policy().failure_gate
    assert (policy.waves, policy.horizon_seconds) == (Policy().waves, Policy().horizon_seconds)


def _keys(data: object) -> set[str]:
    if isinstance(data, dict):
        return set(data).union(*(_keys(value) for value in data.values()))
    return set().union(*(_keys(value) for value in data)) if isinstance(data, list) else set()


@pytest.mark.parametrize(("text", "kind"), [("x = " + "9" * 5000, "toml"), ('{"x": ' + "9" * 5000 + "}", "json")])
def test_a_number_of_thousands_of_digits_is_refused(text: str, kind: Literal["toml", "json"]) -> None:
    with pytest.raises(PolicyError, match="not"):
        parse_policy(text, kind=kind, where="policy")
