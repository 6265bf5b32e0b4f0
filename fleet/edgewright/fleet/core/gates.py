"""Gates: three outcomes, each with the numbers behind it."""

from __future__ import annotations

from typing import Literal

import msgspec

from .drift import FeatureDrift
from .policy import Action
from .rows import Number

Outcome = Literal["pass", "wait", "inconclusive", "fail"]
"""`wait`: not enough yet; `inconclusive`: the time is over and it is still not enough."""


class GateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate says."""

    gate: Literal["abort_config", "failure", "drift"]
    target: str | None
    """None where the gate looks at all targets together."""
    outcome: Outcome
    action: Action | None
    """What a `fail` or an `inconclusive` leads to; None is continue."""
    reason: str
    numbers: dict[str, Number] = {}
    features: tuple[FeatureDrift, ...] = ()
    data_drift: bool = False
    """The inputs changed on all devices: tell people, the release is not to blame."""
