"""A model is ready where a request would be taken: not while its breaker leaves it alone."""

from __future__ import annotations

from typing import Any

import pytest

from edgewright.runtime.server.assembly import assemble
from edgewright.runtime.server.guarded import Guarded
from edgewright.runtime.server.names import Names
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.serving import BreakerSettings, ModelSettings
from tests.runtime.server.pipeline_stand_ins import Client, HeldModel


class NoRoutes:
    def get(self, name: str) -> None:
        del name

    def statistics(self) -> dict[str, dict[str, object]]:
        return {}


class OneModel:
    """As much of a model table as names are looked up in."""

    def __init__(self, endpoint: Guarded) -> None:
        self._endpoint = endpoint

    def endpoint(self, name: str, version: str | None) -> Guarded:
        del name, version
        return self._endpoint


def test_a_model_that_is_left_alone_is_not_ready_until_it_may_be_tried() -> None:
    model = HeldModel()
    settings = ModelSettings(breaker=BreakerSettings(failures=1, open_s=60))
    guarded = assemble(model, settings, moved=lambda *_: None).endpoint
    table: Any = OneModel(guarded)
    names = Names(table, NoRoutes())
    names.check_ready("digits")
    model.full = True
    names.check_ready("digits")  # a moment's load is no reason to send everybody elsewhere
    model.full = False
    Client(guarded).ask()
    model.refuse(500)
    with pytest.raises(Refusal, match="left alone") as caught:
        names.check_ready("digits")
    assert (caught.value.status, caught.value.headers) == (503, ((b"retry-after", b"60"),))
    guarded.back()
    names.check_ready("digits")
