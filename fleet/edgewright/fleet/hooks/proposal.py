"""What an `on_drift` program leaves becomes a release, and a rollout of it is proposed.

The program gets the alert on standard input, and in it `out`: an empty folder. It leaves there one bundle for each
board, `*.bundle`, all of one new version of the rule's model. Nothing else of it is used.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from edgewright.targets.faults import Fault

from ..core.drift.alert_rules import AlertRule, OnDrift
from ..core.policy.policy import policy_from
from ..core.rows import ENDED
from ..faults import ConflictError
from ..service import Fleet
from ..store import audit_log
from ..store.alerts import HookCall
from .outcome import HookFailed, HookPostponed
from .program import Programs

MAX_BUNDLES = 256
CHUNK_BYTES = 1 << 20
UNDER_WAY = frozenset({"scheduled", "running", "awaiting_approval", "paused", "rolling_back"})


def propose(fleet: Fleet, programs: Programs, jobs: Path, rule: AlertRule, on_drift: OnDrift, call: HookCall) -> str:
    """Run the program of a rule and propose what it made; return what was proposed.

    Safe to repeat: the same bundles are the same release, and a rollout of it that goes on is the proposal.

    Raises:
        HookPostponed: a rollout of the model is under way; whoever trains now would train for nothing.
        HookFailed: the program failed, or left nothing that can be used.
    """
    _wait_for_others(fleet, rule.model)
    folder = Path(tempfile.mkdtemp(prefix=f"{call.call}-", dir=jobs))
    try:
        out = folder / "out"
        out.mkdir()
        body = json.dumps(json.loads(call.body) | {"out": str(out)}).encode()
        programs.run(on_drift.argv, body, timeout_s=on_drift.timeout_seconds, folder=folder)
        return _propose(fleet, rule, on_drift, call, out)
    except Fault as error:
        raise HookFailed(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_others(fleet: Fleet, model: str) -> None:
    for one in fleet.rollouts():
        if one.model == model and one.state in UNDER_WAY:
            raise HookPostponed(f"rollout {one.id} of {model} {one.version} is {one.state}")


def rollout_policy(on_drift: OnDrift) -> dict[str, Any]:
    """Return the policy of the rollout, with a person's yes before its first wave where the rule asks for that.

    Raises:
        PolicyError: the policy cannot be used.
    """
    policy = dict(on_drift.policy)
    policy_from(policy, where="onDrift.policy")
    if on_drift.require_approval:
        first, *others = policy.get("waves") or [1, "10%", "rest"]
        wave = first if isinstance(first, dict) else {"add": first}
        policy["waves"] = [wave | {"requireApproval": True}, *others]
    return policy


def _propose(fleet: Fleet, rule: AlertRule, on_drift: OnDrift, call: HookCall, out: Path) -> str:
    paths = sorted(out.glob("*.bundle"))
    if not 1 <= len(paths) <= MAX_BUNDLES:
        raise HookFailed(f"{on_drift.argv[0]} left {len(paths)} bundles in `out`; expected one for each board")
    bundles = [_upload(fleet, path) for path in paths]
    found = {(one.model, one.version) for one in bundles}
    if len(found) != 1 or {model for model, _ in found} != {rule.model}:
        listed = ", ".join(f"{model} {version}" for model, version in sorted(found))
        raise HookFailed(f"{on_drift.argv[0]} left bundles of {listed}; expected one new version of {rule.model}")
    ((model, version),) = found
    fleet.add_release(model, version, [one.digest for one in bundles])
    rollout = _rollout(fleet, model, version, rollout_policy(on_drift))
    _note(fleet, rule, call, {"model": model, "version": version, "rollout": rollout})
    return f"proposed {model} {version}, rollout {rollout}"


def _upload(fleet: Fleet, path: Path) -> Any:
    if path.is_symlink() or not path.is_file():
        raise HookFailed(f"{path.name} is not a file")
    upload = fleet.artifacts.begin()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                upload.write(chunk)
        return fleet.accept(upload)
    except OSError as error:
        raise HookFailed(f"{path.name}: {error.strerror or error}") from error
    finally:
        upload.discard()


def _rollout(fleet: Fleet, model: str, version: str, policy: dict[str, Any]) -> str:
    for one in fleet.rollouts():
        if (one.model, one.version) == (model, version) and one.state not in ENDED:
            return one.id
    try:
        return fleet.create_rollout(model, version, policy).id
    except ConflictError as error:
        raise HookFailed(f"{model} {version} is a release; its rollout waits: {error}") from error


def _note(fleet: Fleet, rule: AlertRule, call: HookCall, detail: dict[str, Any]) -> None:
    with fleet.database.write() as connection:
        audit_log.append(
            connection,
            now_s=fleet.now(),
            actor=f"rule:{rule.name}",
            action="alert.proposed",
            subject=f"alert:{call.alert}",
            detail=detail,
        )
