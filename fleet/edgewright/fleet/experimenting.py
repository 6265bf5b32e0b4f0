"""What operators do with experiments: begin, look, stop, promote; and the loop that lets them learn.

Each operation is one transaction, with its audit entry in it. A guardrail that fails stops its experiment by itself.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from edgewright.targets.faults import UserFault

from .core.experiment import Experiment, Memory, Plan, Result, as_rollout, faults_of, learn, result_of
from .core.gates.control import due_blocks
from .core.gates.evidence import KnownBundle
from .core.observations import GateMemory
from .core.orders import arms
from .core.orders.floor import epoch_of
from .core.policy.plain import HALF_A_CHARACTER, is_writable
from .core.policy.selector import parse
from .core.rows import Assignment, Device, ReleaseBundle
from .faults import ConflictError, FleetError
from .observing import blocks_of
from .references import reference_of
from .request_blocks import request_blocks
from .service import Fleet
from .store import audit_log, desired, experiments, floors, releases, rollouts
from .store.database import Database
from .store.roster import Roster

log = logging.getLogger(__name__)

PERIOD_S = 30.0
GRACE_S = 900.0
"""How long after its end a window of requests may still come; later ones are left out."""
SLICE_S = 3600.0
"""Windows of requests are read in pieces of so long."""
PROBATION_S = 300.0
MIN_DEVICES = 4


class ExperimentView(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment and what it shows."""

    experiment: Experiment
    result: Result
    devices: tuple[int, int] = (0, 0)
    """That were drawn: for the candidate, for the baseline."""
    route_change: dict[str, Any] | None = None
    """What to set on the devices of an experiment on requests: the split route that ends it."""


class Experimenting:
    """The operations."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._database: Database = fleet.database

    def create(self, given: dict[str, Any]) -> ExperimentView:
        """Begin an experiment.

        Raises:
            FleetError: the plan cannot be used (NotFoundError: no such release; PolicyError: no such query).
            ConflictError: a rollout or an experiment of the model goes on, the fleet is stopped, a release is below
                the security floor, or too few devices run the baseline.
        """
        plan = _plan(given)
        now_s = self._fleet.now()
        with self._database.write() as connection:
            _refuse(connection, plan)
            experiment = Experiment(
                id=f"x-{self._fleet.random_bits(32):08x}",
                plan=plan,
                baseline=_bundles(connection, plan.model, plan.baseline),
                candidate=_bundles(connection, plan.model, plan.candidate),
                seed=self._fleet.random_bits(32),
                created_s=now_s,
            )
            _refuse_below_floor(connection, experiment)
            units = _draw(connection, experiment, now_s=now_s) if plan.unit == "devices" else []
            experiments.add(connection, experiment, units)
            desired.assign(
                connection, [_to_candidate(experiment, one) for one in units if one.arm == "treated"], now_s=now_s
            )
            self._note(
                connection,
                "experiment.created",
                experiment,
                {"plan": msgspec.to_builtins(plan), "seed": experiment.seed, "devices": len(units)},
            )
        return _view(experiment, Memory(), units)

    def status(self, experiment_id: str) -> ExperimentView:
        """Return an experiment and what it shows now.

        Raises:
            NotFoundError: there is none of that id.
        """
        self.learn(experiment_id)
        with self._database.read() as connection:
            experiment, memory = experiments.get(connection, experiment_id)
            return _view(experiment, memory, experiments.units_of(connection, experiment_id))

    def every(self) -> list[ExperimentView]:
        """Return all experiments, newest first."""
        with self._database.read() as connection:
            return [
                _view(experiment, memory, experiments.units_of(connection, experiment.id))
                for experiment, memory in experiments.every(connection)
            ]

    def stop(self, experiment_id: str, *, reason: str, actor: str = "admin") -> ExperimentView:
        """End an experiment; its devices go back to the baseline.

        Raises:
            NotFoundError: there is none of that id.
            ConflictError: it has ended.
        """
        now_s = self._fleet.now()
        with self._database.write() as connection:
            experiment, memory = experiments.get(connection, experiment_id)
            _refuse_ended(experiment)
            units = experiments.units_of(connection, experiment_id)
            back = _ways_back(connection, experiment, units)
            desired.assign(connection, back, now_s=now_s)
            experiment = msgspec.structs.replace(experiment, state="stopped", ended_s=now_s, reason=reason)
            experiments.save(connection, experiment)
            detail = {
                "reason": reason,
                "returned": len(back),
                "result": msgspec.to_builtins(result_of(experiment, memory)),
            }
            self._note(connection, "experiment.stopped", experiment, detail, actor=actor)
        return _view(experiment, memory, units)

    def promote(self, experiment_id: str, *, policy: dict[str, Any], force: bool = False) -> ExperimentView:
        """End an experiment and roll its candidate out to all devices.

        Raises:
            NotFoundError: there is none of that id.
            ConflictError: it has ended, does not show that the candidate is better (`force` promotes it anyway), or
                the rollout cannot be made.
        """
        shown = self.status(experiment_id)
        _refuse_ended(shown.experiment)
        if shown.result.finding != "better" and not force:
            raise ConflictError(
                f"experiment {experiment_id} does not show that the candidate is better ({shown.result.finding}: "
                f"{shown.result.reason}); wait, stop it, or promote with --force"
            )
        plan, now_s = shown.experiment.plan, self._fleet.now()
        ended = msgspec.structs.replace(shown.experiment, state="promoted", ended_s=now_s, reason=shown.result.reason)
        with self._database.write() as connection:
            experiments.save(connection, ended)
        try:
            rollout = self._fleet.create_rollout(plan.model, plan.candidate, policy)
        except (UserFault, SQLAlchemyError):
            with self._database.write() as connection:
                experiments.save(connection, shown.experiment)
            raise
        ended = msgspec.structs.replace(ended, rollout=rollout.id)
        with self._database.write() as connection:
            experiments.save(connection, ended)
            detail = {"rollout": rollout.id, "forced": force, "result": msgspec.to_builtins(shown.result)}
            self._note(connection, "experiment.promoted", ended, detail)
        return msgspec.structs.replace(shown, experiment=ended, route_change=_route_change(ended))

    def learn(self, experiment_id: str) -> Result:
        """Take in what was observed since the last time."""
        now_s = self._fleet.now()
        with self._database.write() as connection:
            experiment, memory = experiments.get(connection, experiment_id)
            if experiment.state != "running":
                return result_of(experiment, memory)
            more = _learn_devices if experiment.plan.unit == "devices" else _learn_requests
            known = more(connection, experiment, memory, now_s=now_s)
            if known != memory:
                experiments.save_memory(connection, experiment_id, known)
        return result_of(experiment, known)

    def step(self) -> None:
        """Let all experiments learn, and stop those with a guardrail that failed."""
        with self._database.read() as connection:
            ids = experiments.running(connection)
        for one in ids:
            result = self.learn(one)
            if result.finding == "guardrail_failed":
                self.stop(one, reason=result.reason, actor="gate")

    def _note(
        self,
        connection: Connection,
        action: str,
        experiment: Experiment,
        detail: dict[str, Any],
        *,
        actor: str = "admin",
    ) -> None:
        subject = f"experiment:{experiment.id}"
        audit_log.append(
            connection, now_s=self._fleet.now(), actor=actor, action=action, subject=subject, detail=detail
        )


class ExperimentKeeper:
    """Has experiments learn from a thread of its own."""

    def __init__(self, experimenting: Experimenting) -> None:
        self._experimenting = experimenting
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiments", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that runs."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                self._experimenting.step()
            except (SQLAlchemyError, UserFault) as error:
                log.error("experiments could not learn (%s); trying again", error)


def _plan(given: dict[str, Any]) -> Plan:
    if not is_writable(given):
        raise FleetError(f"experiment: {HALF_A_CHARACTER}")
    try:
        plan = msgspec.convert(given, Plan)
    except msgspec.ValidationError as error:
        raise FleetError(f"experiment: {error}") from error
    fault = faults_of(plan)
    if fault is not None:
        raise FleetError(f"experiment: {fault}")
    if plan.where:
        parse(plan.where)
    return plan


def _refuse(connection: Connection, plan: Plan) -> None:
    standing = floors.stop_of(connection)
    if standing is not None:
        raise ConflictError(
            f"the fleet is stopped ({standing.reason}): no experiment is made; `edgewright fleet lift` ends the stop"
        )
    for other in rollouts.unfinished(connection):
        if other.model == plan.model:
            raise ConflictError(
                f"rollout {other.id} of {plan.model} goes on ({other.state}): it would change what the experiment "
                "compares; wait for its end, or abort it"
            )
    for one in experiments.running(connection, plan.model):
        raise ConflictError(f"experiment {one} of {plan.model} goes on; stop or promote it first")


def _refuse_below_floor(connection: Connection, experiment: Experiment) -> None:
    floor = floors.every(connection).get(experiment.plan.model, 0)
    epochs = releases.epochs(connection)
    for bundle in (*experiment.baseline, *experiment.candidate):
        if epochs[bundle.digest] < floor:
            raise ConflictError(
                f"the bundle {bundle.digest} for {bundle.target} has security epoch {epochs[bundle.digest]}, "
                f"below the floor {floor} of {experiment.plan.model}"
            )


def _refuse_ended(experiment: Experiment) -> None:
    if experiment.state != "running":
        raise ConflictError(f"experiment {experiment.id} has ended: it was {experiment.state}")


def _bundles(connection: Connection, model: str, version: str) -> tuple[ReleaseBundle, ...]:
    release = releases.get_release(connection, model, version)
    epochs = releases.epochs(connection)
    return tuple(
        ReleaseBundle(target=target, digest=digest, security_epoch=epochs[digest])
        for target, digest in release.bundles.items()
    )


def _draw(connection: Connection, experiment: Experiment, *, now_s: float) -> list[Assignment]:
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
    drawn = [row for row in rows if row.block >= 0]
    if len(drawn) < MIN_DEVICES:
        raise ConflictError(
            f"{len(drawn)} devices can be drawn: those that run {experiment.plan.model} {experiment.plan.baseline} on "
            f"a board that both releases have; an experiment on devices needs {MIN_DEVICES}"
        )
    return drawn


def _rank(seed: int, device: Device) -> bytes:
    return hashlib.sha256(f"{seed}/{device.id}".encode()).digest()


def _to_candidate(experiment: Experiment, one: Assignment) -> desired.Assignment:
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


def _ways_back(connection: Connection, experiment: Experiment, units: Sequence[Assignment]) -> list[desired.Assignment]:
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


def _known(connection: Connection, experiment: Experiment) -> list[KnownBundle]:
    wanted = {bundle.digest for bundle in (*experiment.baseline, *experiment.candidate)}
    return [
        KnownBundle(digest=one.digest, target=one.target, reference=reference_of(one))
        for one in releases.every_bundle(connection)
        if one.digest in wanted
    ]


def _learn_devices(connection: Connection, experiment: Experiment, memory: Memory, *, now_s: float) -> Memory:
    rollout = as_rollout(experiment)
    units = experiments.units_of(connection, experiment.id)
    known = _known(connection, experiment)
    roster = Roster()
    roster.refresh(connection, [rollout], now_s=now_s)
    while due := due_blocks(rollout, units, GateMemory(next_block=memory.next_block), now_s):
        found = blocks_of(connection, rollout, due, known, last_seen_s=roster.last_seen_s)
        memory = learn(experiment, memory, found)
    return memory


def _learn_requests(connection: Connection, experiment: Experiment, memory: Memory, *, now_s: float) -> Memory:
    known = _known(connection, experiment)
    digests = [bundle.digest for bundle in known]
    while memory.learnt_until_s < now_s - GRACE_S - SLICE_S:
        since_s = memory.learnt_until_s
        until_s = since_s + SLICE_S
        found = experiments.windows_between(connection, digests, since_s=since_s, until_s=until_s)
        blocks = request_blocks(experiment, found, known, first=memory.next_block)
        memory = msgspec.structs.replace(learn(experiment, memory, blocks), learnt_until_s=until_s)
    return memory


def _view(experiment: Experiment, memory: Memory, units: Sequence[Assignment]) -> ExperimentView:
    treated = sum(one.arm == "treated" for one in units)
    return ExperimentView(
        experiment=experiment,
        result=result_of(experiment, memory),
        devices=(treated, len(units) - treated),
        route_change=_route_change(experiment) if experiment.state != "running" else None,
    )


def _route_change(experiment: Experiment) -> dict[str, Any] | None:
    plan = experiment.plan
    if plan.unit != "requests":
        return None
    winner = plan.candidate if experiment.state == "promoted" else plan.baseline
    return {"kind": "split", "arms": [{"model": plan.model, "version": winner, "weight": 100}]}
