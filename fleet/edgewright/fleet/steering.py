"""What operators do to rollouts: begin, press a button, take one board back, stop the whole fleet.

Each is one transaction, with its audit entries in it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from .commands import carry_out
from .core import rollout as core
from .core.back import is_way_back_unknown, take_back_unheard, with_halt
from .core.batch import batch, record
from .core.orders.conflicts import precedence
from .core.orders.floor import epoch_of
from .core.policy.at_start import check_at_start
from .core.policy.policy import policy_from
from .core.rows import ENDED, GATE_DESIGN, Assignment, BoardHalt, Command, ReleaseBundle, Rollout
from .experiment_arms import take_back_unheard as take_back_unheard_candidates
from .faults import ConflictError, NotFoundError
from .store import audit_log, experiments, floors, releases, rollouts
from .store.database import Database
from .store.roster import Roster

ATTEMPTS = 5
"""How often an operator's wish is tried again when a tick changed the rollout at the same time."""
NEW_ORDERS: frozenset[str] = frozenset({"resume", "approve"})
"""Events after which new orders go out: not while an emergency stop stands."""


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest security epoch that devices are ordered to, of one model."""

    model: str
    security_epoch: int


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the whole fleet is stopped, and by whom."""

    stop: floors.Stop | None
    rollouts: tuple[str, ...] = ()
    """Those that this stop paused."""


class Steering:
    """The operations. `now` is a clock and `random_bits` a source of chance, so that a simulation can bring its own."""

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], float],
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._database = database
        self._now = now
        self._random_bits = random_bits

    def create(self, model: str, version: str, policy: dict[str, Any]) -> Rollout:
        """Start to roll a release out.

        Raises:
            PolicyError: the policy cannot be used.
            NotFoundError: no such release.
            ConflictError: another rollout stands in the way, the release is below the floor, or the fleet is stopped.
        """
        with self._database.write() as connection:
            return self.create_within(connection, model, version, policy)

    def create_within(self, connection: Connection, model: str, version: str, policy: dict[str, Any]) -> Rollout:
        """Start to roll a release out, as `create` does, in a transaction that has begun."""
        checked = policy_from(policy, where="policy")
        now_s = self._now()
        _refuse_while_stopped(connection, "no rollout is made")
        _refuse_beside_experiment(connection, model)
        release = releases.get_release(connection, model, version)
        check_at_start(checked, release.bundles, now_s, where="policy")
        epochs = releases.epochs(connection)
        rollout = Rollout(
            id=f"r-{self._random_bits(32):08x}",
            model=model,
            version=version,
            bundles=tuple(
                ReleaseBundle(target=target, digest=digest, security_epoch=epochs[digest])
                for target, digest in release.bundles.items()
            ),
            policy=checked,
            seed=self._random_bits(32),
            created_s=now_s,
            state="running" if checked.scheduling_config.start_time is None else "scheduled",
            security_floor=floors.every(connection).get(model, 0),
            gate_design=GATE_DESIGN,
        )
        _refuse_below_floor(rollout)
        replaced = _take_places(connection, rollout, now_s=now_s)
        rollouts.add(connection, rollout)
        detail = {
            "model": model,
            "version": version,
            "bundles": release.bundles,
            "seed": rollout.seed,
            "security_floor": rollout.security_floor,
            "supersedes": replaced,
            "gate_design": rollout.gate_design,
            "policy": msgspec.to_builtins(checked),
        }
        _note(connection, "rollout.created", f"rollout:{rollout.id}", detail, now_s=now_s)
        return rollout

    def fire(self, rollout_id: str, event: core.Event, *, reason: str) -> Rollout:
        """Carry out an operator's wish about a rollout.

        Raises:
            NotFoundError: there is no such rollout.
            ConflictError: not possible in its state, while the fleet is stopped, or beside an experiment of the model.
        """
        return self._again(rollout_id, lambda connection: self._fire(connection, rollout_id, event, reason))

    def roll_back_board(self, rollout_id: str, target: str, *, reason: str) -> Rollout:
        """Take the release back from the devices of one board; the others go on.

        Raises:
            NotFoundError: there is no such rollout, or the release has no bundle for that board.
            ConflictError: the rollout has ended or is on its way back as a whole, or the board is back already.
        """
        return self._again(rollout_id, lambda connection: self._halt(connection, rollout_id, target, reason))

    def stop(self, *, reason: str) -> Stopped:
        """Stop the whole fleet: pause every rollout that runs and take back every order that no device has heard.

        Raises:
            ConflictError: it is stopped already.
        """
        now_s = self._now()
        with self._database.write() as connection:
            standing = floors.stop_of(connection)
            if standing is not None:
                raise ConflictError(
                    f"the fleet is stopped already ({standing.reason}); `edgewright fleet lift` ends it"
                )
            stop = floors.Stop(reason=reason, by="admin", at_s=now_s)
            floors.put_stop(connection, stop)
            paused = []
            for rollout in rollouts.unfinished(connection):
                commands = _emergency(connection, rollout, f"emergency stop: {reason}", now_s)
                carry_out(connection, rollout, commands, now_s=now_s)
                if (rollout.state, "pause") in core.TRANSITIONS:
                    paused.append(rollout.id)
            kept = take_back_unheard_candidates(connection, now_s=now_s)
            detail = {"reason": reason, "paused": paused, "kept_on_baseline": kept}
            _note(connection, "fleet.stopped", "fleet", detail, now_s=now_s)
        return Stopped(stop=stop, rollouts=tuple(paused))

    def lift(self) -> Stopped:
        """End the emergency stop. Rollouts stay paused until each is resumed.

        Raises:
            ConflictError: the fleet is not stopped.
        """
        now_s = self._now()
        with self._database.write() as connection:
            standing = floors.stop_of(connection)
            if standing is None:
                raise ConflictError("the fleet is not stopped")
            floors.lift_stop(connection)
            _note(connection, "fleet.lifted", "fleet", {"stopped_s": now_s - standing.at_s}, now_s=now_s)
        return Stopped(stop=None)

    def stopped(self) -> Stopped:
        """Return whether the fleet is stopped."""
        with self._database.read() as connection:
            return Stopped(stop=floors.stop_of(connection))

    def floor(self, model: str) -> Floor:
        """Return a model's security floor."""
        with self._database.read() as connection:
            return Floor(model=model, security_epoch=floors.every(connection).get(model, 0))

    def raise_floor(self, model: str, security_epoch: int) -> Floor:
        """Raise a model's security floor, at once and for every rollout.

        Raises:
            NotFoundError: there is no release of that model.
            ConflictError: it is higher already.
        """
        now_s = self._now()
        with self._database.write() as connection:
            if not any(release.model == model for release in releases.every_release(connection)):
                raise NotFoundError(
                    f"no release of model {model!r}; `edgewright fleet release ls` shows those there are"
                )
            before = floors.raise_to(connection, model, security_epoch, now_s=now_s)
            detail = {"before": before, "security_epoch": security_epoch}
            _note(connection, "floor.raised", f"model:{model}", detail, now_s=now_s)
        return Floor(model=model, security_epoch=security_epoch)

    def _again(self, rollout_id: str, change: Callable[[Connection], Rollout]) -> Rollout:
        for _ in range(ATTEMPTS):
            try:
                with self._database.write() as connection:
                    return change(connection)
            except rollouts.StaleRolloutError:
                continue
        raise ConflictError(f"rollout {rollout_id} keeps changing; look at its status and try again")

    def _fire(self, connection: Connection, rollout_id: str, event: core.Event, reason: str) -> Rollout:
        now_s = self._now()
        rollout, _ = rollouts.get(connection, rollout_id)
        if event in NEW_ORDERS:
            _refuse_while_stopped(connection, f"{event} waits")
        assignments = rollouts.assignments_of(connection, rollout_id)
        if event == "rollback":
            _refuse_beside_experiment(connection, rollout.model)
            rollouts.refuse_if_superseded(connection, rollout)
            _refuse_if_no_way_back(rollout, assignments)
        try:
            commands = core.fire(rollout, event, now_s, assignments, actor="admin", reason=reason)
        except core.RolloutConflict as conflict:
            raise ConflictError(str(conflict)) from conflict
        carry_out(connection, rollout, commands, now_s=now_s)
        return rollouts.get(connection, rollout_id)[0]

    def _halt(self, connection: Connection, rollout_id: str, target: str, reason: str) -> Rollout:
        now_s = self._now()
        rollout, _ = rollouts.get(connection, rollout_id)
        boards = sorted(bundle.target for bundle in rollout.bundles)
        if target not in boards:
            raise NotFoundError(f"rollout {rollout_id} has no bundle for board {target!r}; it has {', '.join(boards)}")
        if rollout.state in {*ENDED, "rolling_back"}:
            raise ConflictError(
                f"rollout {rollout_id} is {rollout.state}: one board goes back only while the others go on; "
                "take the whole rollout back, or bring out a release for that board"
            )
        text = reason or "rolled back by an operator"
        halt = BoardHalt(target=target, action="ROLLBACK", reason=text, at_s=now_s, is_return_approved=True)
        halted = with_halt(rollout, halt)
        if halted is rollout:
            raise ConflictError(f"rollout {rollout_id}: board {target} is on its way back already")
        numbers: dict[str, Any] = {"target": target, "action": "ROLLBACK"}
        commands = batch(halted, [record(halted, now_s, "board_halted", text, "admin", numbers)])
        carry_out(connection, rollout, commands, now_s=now_s)
        return rollouts.get(connection, rollout_id)[0]


def _take_places(connection: Connection, rollout: Rollout, *, now_s: float) -> list[str]:
    """Have rollouts give way to a new one, or refuse it; returns those that did."""
    others = [one for one in rollouts.unfinished(connection) if one.model == rollout.model]
    roster = Roster()
    roster.refresh(connection, [rollout], now_s=now_s) if others else None
    decided = precedence(rollout, others, roster.devices_for(rollout) if others else ())
    if decided.refusal:
        raise ConflictError(decided.refusal)
    for other in others:
        if other.id in decided.supersedes:
            assignments = rollouts.assignments_of(connection, other.id)
            commands = core.supersede(other, now_s, assignments, by=rollout, actor="admin")
            carry_out(connection, other, commands, now_s=now_s)
    return list(decided.supersedes)


def _emergency(connection: Connection, rollout: Rollout, reason: str, now_s: float) -> Sequence[Command]:
    assignments = rollouts.assignments_of(connection, rollout.id)
    unheard = take_back_unheard(rollout, now_s, assignments) if rollout.state != "rolling_back" else []
    if (rollout.state, "pause") in core.TRANSITIONS:
        return (*core.fire(rollout, "pause", now_s, assignments, actor="admin", reason=reason), *unheard)
    return batch(rollout, unheard)


def _refuse_while_stopped(connection: Connection, what: str) -> None:
    standing = floors.stop_of(connection)
    if standing is not None:
        raise ConflictError(f"the fleet is stopped ({standing.reason}): {what}; `edgewright fleet lift` ends the stop")


def _refuse_beside_experiment(connection: Connection, model: str) -> None:
    for one in experiments.running(connection, model):
        raise ConflictError(
            f"experiment {one} of {model} goes on, and a rollout would change what it compares: "
            "`edgewright fleet experiment stop` or `promote` ends it"
        )


def _refuse_below_floor(rollout: Rollout) -> None:
    for bundle in rollout.bundles:
        if epoch_of(bundle) < rollout.security_floor:
            raise ConflictError(
                f"the bundle for {bundle.target} has security epoch {bundle.security_epoch}, below the floor "
                f"{rollout.security_floor} of {rollout.model}: compile it anew with a higher epoch"
            )


def _refuse_if_no_way_back(rollout: Rollout, assignments: Iterable[Assignment]) -> None:
    given = [one for one in assignments if one.arm != "control"]
    unknown = [one for one in given if is_way_back_unknown(one)]
    if unknown and len(unknown) == len(given):
        raise ConflictError(
            f"rollout {rollout.id} cannot be rolled back: before it, {unknown[0].device} ran bundle "
            f"{unknown[0].previous_bundle}, which was never uploaded here"
            + (f" (and so for {len(unknown) - 1} more devices)" if len(unknown) > 1 else "")
            + "; upload it with `edgewright fleet release add`, then try again"
        )


def _note(connection: Connection, action: str, subject: str, detail: dict[str, Any], *, now_s: float) -> None:
    audit_log.append(connection, now_s=now_s, actor="admin", action=action, subject=subject, detail=detail)
