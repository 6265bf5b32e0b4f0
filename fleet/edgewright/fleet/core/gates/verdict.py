"""Who is stopped: nobody, some boards, or the whole rollout.

Each gate says what its own numbers mean; this file says what follows from all of them together.

- A gate that has *failed* and speaks for one board stops that board, and the others go on.
- A gate that has failed and speaks for all boards stops the rollout, and so does one that stops the last board that is
  left: then the weakest of the boards' actions is the rollout's, since the stronger ones were carried out already.
- A gate that can tell nothing (`inconclusive`) asks for a person, and a person is asked about the rollout, not about a
  board. Who has answered for this wave is not asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ..policy.sections import Action
from ..rows import Rollout, RolloutState
from .status import GateStatus

SEVERITY: Mapping[Action, int] = {"PAUSE": 1, "CANCEL": 2, "ROLLBACK": 3}
MAY_PAUSE: frozenset[RolloutState] = frozenset({"running", "awaiting_approval", "following"})


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates ask for now. Nothing where both are empty."""

    whole: GateStatus | None = None
    """Stops the whole rollout; its `action` says how."""
    boards: tuple[GateStatus, ...] = ()
    """Each stops its `target` by its `action`; at most one a board, and only what is stronger than the halt that the
    board has already."""


def decide(rollout: Rollout, gates: Sequence[GateStatus]) -> Verdict:
    """Return who is to be stopped now. The same rows give the same verdict, and none once it was carried out."""
    asking = [gate for gate in gates if gate.action is not None and _may(rollout, gate.action)]
    whole = _strongest(gate for gate in asking if not _is_for_one_board(rollout, gate))
    if whole is not None and whole.action != "PAUSE":
        return Verdict(whole=whole)
    boards = _halts(rollout, [gate for gate in asking if _is_for_one_board(rollout, gate)])
    last = _last_board(rollout, boards)
    return Verdict(whole=last or whole, boards=boards)


def _may(rollout: Rollout, action: Action) -> bool:
    """Tell whether this action changes anything: one pauses what runs, and not what a person has let go on."""
    return action != "PAUSE" or (rollout.state in MAY_PAUSE and rollout.accepted_wave != rollout.wave)


def _is_for_one_board(rollout: Rollout, gate: GateStatus) -> bool:
    return gate.target is not None and gate.outcome == "fail" and len(rollout.bundles) > 1


def _strongest(gates: Iterable[GateStatus]) -> GateStatus | None:
    return max(gates, key=lambda gate: SEVERITY[gate.action] if gate.action else 0, default=None)


def _halts(rollout: Rollout, gates: Sequence[GateStatus]) -> tuple[GateStatus, ...]:
    halted = {halt.target: SEVERITY[halt.action] for halt in rollout.halted}
    found = []
    for target in sorted({gate.target for gate in gates if gate.target is not None}):
        gate = _strongest(gate for gate in gates if gate.target == target)
        if gate is not None and gate.action is not None and SEVERITY[gate.action] > halted.get(target, 0):
            found.append(gate)
    return tuple(found)


def _last_board(rollout: Rollout, boards: Sequence[GateStatus]) -> GateStatus | None:
    """Return what the rollout does when these halts leave no board; None while one is left, or nothing is new."""
    if not boards:
        return None
    action_of: dict[str, Action] = {halt.target: halt.action for halt in rollout.halted}
    action_of.update({gate.target: gate.action for gate in boards if gate.target is not None and gate.action})
    if any(bundle.target not in action_of for bundle in rollout.bundles):
        return None
    weakest = min(action_of.values(), key=lambda action: SEVERITY[action])
    if not _may(rollout, weakest):
        return None
    last = boards[-1]
    return msgspec.structs.replace(last, action=weakest, reason=f"no board is left: {last.reason}")
