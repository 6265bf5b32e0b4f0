"""Alerts and experiments on the page: which, of whom, since when, and the numbers."""

from __future__ import annotations

from typing import get_args

from edgewright.fleet.console.alert_cards import alert_card
from edgewright.fleet.console.experiment_cards import FINDING_TONE, experiment_card
from edgewright.fleet.console.feed import Feed
from edgewright.fleet.core.drift.alert_rules import AlertRule
from edgewright.fleet.core.experiment import Experiment, Finding, Memory, Plan
from edgewright.fleet.core.observations import Evidence
from edgewright.fleet.core.policy.sections import MetricLimit
from edgewright.fleet.store import alerts, experiments
from edgewright.fleet.store.alerts import Alert, StoredRule
from tests.fleet.house import House

RULE = AlertRule(name="lens", model="digits", metric="inputs", raise_above=0.25)
ALERT = Alert(
    alert="a-1",
    rule="lens",
    model="digits",
    metric="inputs",
    board="raspberry-pi-5",
    site="",
    release="1",
    raised_s=5.0,
    cleared_s=None,
    silenced=False,
    value=0.6123,
    message="digits: inputs are 0.612 away",
)
EXPERIMENT = Experiment(
    id="x-1",
    plan=Plan(
        model="digits",
        baseline="1",
        candidate="2",
        primary="accuracy",
        guardrails=(MetricLimit(metric="latency", max_loss=10),),
    ),
    baseline=(),
    candidate=(),
    seed=1,
    created_s=0.0,
)
MEMORY = Memory(
    next_block=400,
    effects={"accuracy": Evidence(steps=400, total=-8.0, total_squared=1.0), "latency": Evidence(steps=400)},
    counts=(400, 400),
    planned=(400, 400),
)


def test_an_alert_says_its_rule_of_whom_since_when_and_how_far() -> None:
    card = alert_card(ALERT, {"lens": RULE})
    assert (card.rule, card.group) == ("lens", "digits, board raspberry-pi-5, release 1")
    assert (card.value, card.limit, card.since_s) == ("inputs 0.612", "0.25", 5.0)
    assert alert_card(ALERT, {}).limit == "", "the rule may be gone by now"


def test_an_experiment_shows_each_metric_with_its_interval() -> None:
    card = experiment_card(EXPERIMENT, MEMORY)
    assert (card.title, card.chip.text) == ("digits: 2 against 1", "better")
    accuracy, latency = card.effects
    assert (accuracy.metric, accuracy.blocks, accuracy.estimate) == ("accuracy (primary)", 400, "-2 points")
    assert accuracy.interval.count(" to ") == 1
    assert (latency.limit, latency.e_value) == ("10", "1, stops at 20")
    assert set(FINDING_TONE) == set(get_args(Finding))


def test_the_page_shows_alerts_that_are_up_and_experiments(house: House) -> None:
    with house.fleet.database.write() as connection:
        alerts.put_rule(connection, StoredRule(rule=RULE, secret=b"", created_s=0.0, next_s=0))
    before = Feed(house.fleet, broker_connected=lambda: True).sections()
    assert "1 rule watches: lens" in before["alerts"]
    assert "edgewright fleet experiment create" in before["experiments"]
    assert "Alerts up" not in before["tiles"]
    with house.fleet.database.write() as connection:
        alerts.add_alert(connection, ALERT)
        experiments.add(connection, EXPERIMENT, [])
        experiments.save_memory(connection, "x-1", MEMORY)
    after = Feed(house.fleet, broker_connected=lambda: True).sections()
    assert "board raspberry-pi-5" in after["alerts"]
    assert "Alerts up" in after["tiles"]
    assert "accuracy is better with the candidate" in after["experiments"]


def test_without_rules_the_page_says_how_to_add_one(house: House) -> None:
    assert "edgewright fleet alert rule add" in Feed(house.fleet, broker_connected=lambda: True).sections()["alerts"]
