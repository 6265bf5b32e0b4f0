"""Readiness of the server: who is told to come again is told when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.state import ServerState
from edgewright.runtime.server.v2.about import check_server_ready


@dataclass
class Table:
    """What is asked of a `ModelTable` here."""

    loading: str | None = None
    starting: bool = False


@pytest.mark.parametrize(
    ("table", "draining"), [(Table(), True), (Table("digits", starting=True), False), (Table("digits", True), True)]
)
def test_not_now_says_when_to_ask_again(table: Table, draining: bool) -> None:
    with pytest.raises(Refusal) as caught:
        check_server_ready(cast("Any", table), ServerState("incarnation", draining))
    assert caught.value.status == 503
    assert dict(caught.value.headers)[b"retry-after"] == b"1"


def test_a_server_that_is_up() -> None:
    check_server_ready(cast("Any", Table("digits")), ServerState("incarnation"))
