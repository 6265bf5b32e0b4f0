"""The devices of an experiment: which are drawn for it, their orders, and their way back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection

from .core.experiment import Experiment, as_rollout
from .core.orders import arms
from .core.orders.floor import epoch_of
from .core.policy.selector import parse
from .core.rows import Assignment, Device
from .faults import ConflictError
from .store import desired, experiments, floors
from .store.roster import Roster

PROBATION_S = 300.0
MIN_DEVICES = 4


def drawn(connection: Connection, experiment: Experiment, *, now_s: float) -> list[Assignment]:
    """Draw the arms among the devices that run the baseline, in an order that the seed settles."""
    rollout = as_rollout(experiment)
    roster = Roster()
    roster.refresh(connection, [rollout], now_s=now_s)
    baseline = {bundle.target: bundle.digest for bundle in experiment.baseline}
    targets = {bundle.target for bundle in experiment.candidate}
    query = parse(experiment.plan.where) if experiment.plan.where else None
    free = [
        device
        for device in roster.devices_for(rollout)
        if device.target in targets
        and device.bundle == baseline.get(device.target)
        and device.bundle is not None
        and not device.taken
        and (query is None or query.matches(device))
    ]
    free.sort(key=lambda device: _rank(experiment.seed, device))
    rows = arms.draw(rollout, 0, free, len(free), 0, 0, now_s=now_s)
    whole = [row for row in rows if row.block >= 0]
    if len(whole) < MIN_DEVICES:
        raise ConflictError(
            f"{len(whole)} devices can be drawn: those that run {experiment.plan.model} {experiment.plan.baseline} on "
            f"a board that both releases have; an experiment on devices needs {MIN_DEVICES}"
        )
    return whole


def _rank(seed: int, device: Device) -> bytes:
    return hashlib.sha256(f"{seed}/{device.id}".encode()).digest()


def to_candidate(experiment: Experiment, one: Assignment) -> desired.Assignment:
    """Return the order of a device that was drawn for the candidate."""
    return desired.Assignment(
        device=one.device,
        model=experiment.plan.model,
        version=experiment.plan.candidate,
        bundle=one.bundle,
        command=one.command,
        probation_s=PROBATION_S,
        rollback=False,
        rollout=None,
    )


def ways_back(connection: Connection, experiment: Experiment, units: Sequence[Assignment]) -> list[desired.Assignment]:
    """Return the orders back to the baseline; none below the security floor, which may have risen since."""
    floor = floors.every(connection).get(experiment.plan.model, 0)
    digests = {bundle.target: bundle.digest for bundle in experiment.baseline if epoch_of(bundle) >= floor}
    return [
        desired.Assignment(
            device=one.device,
            model=experiment.plan.model,
            version=experiment.plan.baseline,
            bundle=digests[one.target],
            command=f"{one.command}.back",
            probation_s=PROBATION_S,
            rollback=True,
            rollout=None,
        )
        for one in units
        if one.arm == "treated" and one.target in digests
    ]


def take_back_unheard(connection: Connection, *, now_s: float) -> list[str]:
    """Have devices that heard nothing yet of their order to a candidate stay with the baseline; returns the devices.

    For an emergency stop: those that run a candidate keep it, until someone ends the experiment.
    """
    names: list[str] = []
    for one in experiments.running(connection):
        experiment, _ = experiments.get(connection, one)
        units = experiments.units_of(connection, one)
        unheard = desired.unheard(connection, [unit.command for unit in units if unit.arm == "treated"])
        back = ways_back(connection, experiment, [unit for unit in units if unit.command in unheard])
        desired.assign(connection, back, now_s=now_s)
        names += [order.device for order in back]
    return names
