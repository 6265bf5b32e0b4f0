"""What operators do with experiments: begin, look, stop, promote.

Each operation is one transaction, with its audit entry in it. A guardrail that fails stops its experiment by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from .core.experiment import Experiment, Memory, Plan, Result, faults_of, result_of
from .core.policy.plain import HALF_A_CHARACTER, is_writable
from .core.policy.selector import parse
from .core.rows import Assignment, ReleaseBundle
from .experiment_arms import drawn, to_candidate, ways_back
from .experiment_learning import learn_devices, learn_requests
from .faults import ConflictError, FleetError
from .service import Fleet
from .store import audit_log, desired, experiments, floors, releases, rollouts
from .store.database import Database


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
            units = drawn(connection, experiment, now_s=now_s) if plan.unit == "devices" else []
            experiments.add(connection, experiment, units)
            desired.assign(
                connection, [to_candidate(experiment, one) for one in units if one.arm == "treated"], now_s=now_s
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
            back = ways_back(connection, experiment, units)
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
        """End an experiment and roll its candidate out to all devices: both, or neither.

        Raises:
            NotFoundError: there is none of that id.
            PolicyError: the policy cannot be used.
            ConflictError: it has ended, does not show that the candidate is better (`force` promotes it anyway), or
                the rollout cannot be made.
        """
        self.learn(experiment_id)
        with self._database.write() as connection:
            experiment, memory = experiments.get(connection, experiment_id)
            _refuse_ended(experiment)
            result = result_of(experiment, memory)
            if result.finding != "better" and not force:
                raise ConflictError(
                    f"experiment {experiment_id} does not show that the candidate is better ({result.finding}: "
                    f"{result.reason}); wait, stop it, or promote with --force"
                )
            plan, now_s = experiment.plan, self._fleet.now()
            ended = msgspec.structs.replace(experiment, state="promoted", ended_s=now_s, reason=result.reason)
            experiments.save(connection, ended)  # first: no rollout begins beside an experiment that goes on
            rollout = self._fleet.steering.create_within(connection, plan.model, plan.candidate, policy)
            ended = msgspec.structs.replace(ended, rollout=rollout.id)
            experiments.save(connection, ended)
            detail = {"rollout": rollout.id, "forced": force, "result": msgspec.to_builtins(result)}
            self._note(connection, "experiment.promoted", ended, detail)
            return _view(ended, memory, experiments.units_of(connection, experiment_id))

    def learn(self, experiment_id: str) -> Result:
        """Take in what was observed since the last time."""
        now_s = self._fleet.now()
        with self._database.write() as connection:
            experiment, memory = experiments.get(connection, experiment_id)
            if experiment.state != "running":
                return result_of(experiment, memory)
            more = learn_devices if experiment.plan.unit == "devices" else learn_requests
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
