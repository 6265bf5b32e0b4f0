"""The orders of a rollout over HTTP: in pages, or all at once to who asks as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgewright.fleet.sim.device import Behaviour
from tests.fleet.console.test_console import Browser, client_of
from tests.fleet.house import House


@pytest.fixture
def browser(house: House) -> Browser:
    return client_of(house)


def begun(house: House, folder: Path, devices: int) -> str:
    for number in range(devices):
        house.enrol(f"cam-{number}", lambda _: Behaviour(), seed=number)
    house.step(connecting=True)
    house.release(folder, "1")
    made = house.fleet.create_rollout("digits", "1", {"waves": ["rest"]})
    house.step()
    return made.id


def test_orders_come_in_pages_and_all_at_once_to_who_asks_as_before(
    house: House, browser: Browser, tmp_path: Path
) -> None:
    path = f"/v1/rollouts/{begun(house, tmp_path / 'bundles', 5)}"
    whole = browser.get(path).json()
    assert whole["after"] is None
    walked: list[Any] = []
    query = {"limit": "2"}
    while True:
        page = browser.get(path, **query).json()
        assert len(page["assignments"]) <= 2
        assert page["counts"] == whole["counts"]
        walked += page["assignments"]
        if page["after"] is None:
            break
        query["after"] = str(page["after"])
    assert walked == whole["assignments"]
    assert sum(one["orders"] for one in whole["counts"]) == len(walked) == 5
    none = browser.get(path, board="other").json()
    assert (none["assignments"], none["after"]) == ([], None)
    only = browser.get(path, limit="0").json()
    assert (only["assignments"], only["counts"]) == ([], whole["counts"])


@pytest.mark.parametrize(
    "query",
    [{"limit": "-1"}, {"limit": "10001"}, {"limit": "x"}, {"after": "-2"}, {"after": f"{2**63}"}, {"state": "good"}],
)
def test_pages_have_bounds(browser: Browser, query: dict[str, str]) -> None:
    assert browser.get("/v1/rollouts/r-1", **query).status_code == 422
