"""How a bundle does on a device, drawn at random: some fail, some see other data, few measure everything."""

from __future__ import annotations

import random

from .behaviour import Behaviour


def draw_behaviour(chance: random.Random, *, failing: float, is_idle: bool) -> Behaviour:
    """Return a behaviour that is the same whenever the same chance is asked.

    Args:
        chance: of this device and this bundle.
        failing: how likely the update fails.
        is_idle: no requests come in.
    """
    draw = chance.random()
    ends = "confirmed" if draw >= failing else random.Random(draw).choice(("failed", "refused", "rolled_back"))  # noqa: S311
    return Behaviour(
        update_ends=ends,  # type: ignore[arg-type]
        requests_per_step=0 if is_idle else 5,
        weights=((1.0, 2.0, 1.0), (3.0, 1.0)) if draw < 0.5 else ((1.0, 1.0, 2.0), (1.0, 1.0)),
        failure_rate=0.1,
        energy_uj=0 if draw < 0.3 else 700,
        shadow_rows=2 if draw > 0.6 else 0,
        label_rate=0.3 if draw > 0.4 else 0.0,
    )
