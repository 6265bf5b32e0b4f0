"""What goes into a decision and what comes out of one.

Rows in: `Rollout`, `Device`, `Assignment` (this file) and the telemetry groups of drift/report.py. Commands out: the
union `Command`. Whoever owns the store makes rows of its tables, calls `rollout.tick`, and applies all commands of one
tick in one transaction. Every command is safe to apply twice: a command id names each order, and rows are saved whole.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from edgewright.runtime.telemetry.records import UpdatePhase

from .observations import BlockOutcome, GateMemory
from .policy.policy import Policy
from .policy.sections import Action

RolloutState = Literal[
    "scheduled",
    "running",
    "awaiting_approval",
    "paused",
    "following",
    "rolling_back",
    "rolled_back",
    "completed",
    "aborted",
    "superseded",
]
"""`scheduled`: before its start time. `awaiting_approval`: a wave is ready and a person must say yes. `following`: all
waves have passed, and devices that join get the release (`targetSelection = "CONTINUOUS"`). `superseded`: a later
release of the model took its place."""
ENDED: frozenset[RolloutState] = frozenset({"rolled_back", "completed", "aborted", "superseded"})

Arm = Literal["treated", "control", "graduated"]
"""`treated`: got the release. `control`: was drawn into the same wave and keeps the old one, to compare with.
`graduated`: was a control, and got the release at the end."""

Number = int | float | str | bool | None


GATE_DESIGN: Final = 2
"""Of new rollouts."""


class ReleaseBundle(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle of a release for one target."""

    target: str
    digest: str
    security_epoch: int | None = None
    """None: of a rollout that was made before epochs were kept with it."""


class BoardHalt(msgspec.Struct, frozen=True, kw_only=True):
    """One board of a release that was stopped while the others go on."""

    target: str
    action: Action
    """`PAUSE`: no more orders. `CANCEL`: and unheard orders are taken back. `ROLLBACK`: and devices return."""
    reason: str
    at_s: float
    returned_s: float | None = None
    """When all its devices were back, or given up on; only with `ROLLBACK`."""
    is_return_approved: bool = False
    """As for the whole rollout: a person asked for it."""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A person's yes to one wave."""

    wave: int
    by: str
    at_s: float


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout of one release. `tick` and `fire` return the next version of this row; the store keeps it whole."""

    id: str
    model: str
    version: str
    bundles: tuple[ReleaseBundle, ...]
    """At most one for each target."""
    policy: Policy
    seed: int
    """Fixes the random order of devices; drawn once when the rollout is made."""
    created_s: float
    state: RolloutState = "running"
    wave: int = -1
    """Index in `policy.waves` of the wave that runs; -1 before the first tick."""
    wave_started_s: float | None = None
    wave_size: int = 0
    """Devices that this wave adds; fixed when it starts."""
    accepted_wave: int = -1
    """An operator resumed after a gate had paused this wave: gates do not pause it again (they can still roll back)."""
    paused_by_gate: bool = False
    returning_since_s: float | None = None
    is_return_approved: bool = False
    """A person asked for the way back, not a gate: then it may also lead to what was itself rolled back."""
    finished_s: float | None = None
    reason: str = ""
    """Why the rollout is in its state, for people."""
    alerts: tuple[str, ...] = ()
    """Keys of the alerts that were raised, each once."""
    halted: tuple[BoardHalt, ...] = ()
    """Boards that go no further, each once; the strongest action stands."""
    awaited_wave: int | None = None
    """The wave that a person was asked about last; waves before it that nobody fits are passed over."""
    approvals: tuple[Approval, ...] = ()
    security_floor: int = 0
    """No device is ordered to a bundle with a lower security epoch, on no way."""
    failure_unit: Literal["DEVICE", "SITE"] = "DEVICE"
    """What the failure gate counts; fixed when the first wave starts, before any outcome is known."""
    gate_design: Literal[1, 2] = 1
    """How its gates bet and share out alpha, fixed when it is made: its log is computed again by what it began with.
    1: of rollouts that were made before this was kept. 2: the comparisons of all boards are pooled as well
    (gates/over_boards.py), and sites have other bets (gates/sites.py)."""
    revision: int = 0
    """Grows with every change; the store refuses to save over a row whose revision it did not read."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One enrolled device, as it reported itself, for the model of the rollout."""

    id: str
    target: str
    last_seen_s: float | None
    version: str | None
    """What it runs of this model; None if nothing."""
    bundle: str | None
    idle: bool
    """False while an update is under way on the device."""
    reported_s: float | None
    """When it reported `version`, `bundle` and `idle`."""
    taken: bool = False
    """Another rollout that has not ended has an order for this model on this device."""
    site: str = ""
    """The place it stands in; empty: none was said, and the device counts as a site of its own."""
    time_zone: str = "UTC"
    """IANA name; maintenance windows are in it."""
    labels: dict[str, str] = {}
    software: str = ""
    enrolled_s: float = 0.0
    security_epoch: int = 0
    """Of the bundle that it runs."""
    orders_last_day: int = 0
    """Orders of all rollouts for this model in the last 24 h: a device that goes to and fro is left alone."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """The order to one device within one rollout, and what came of it. Key: (rollout, device)."""

    device: str
    target: str
    wave: int
    position: int
    """Dispatch order within the rollout, from 0; drawn before any outcome is known."""
    version: str
    bundle: str
    previous_version: str | None
    previous_bundle: str | None
    """What the device ran when it got the order: the way back."""
    previous_known: bool = True
    """Whether `previous_bundle` was ever uploaded to this fleet. Without it there is nothing to order a device back to:
    neither its size nor its security epoch is known."""
    previous_epoch: int = 0
    """Security epoch of `previous_bundle`."""
    command: str
    dispatched_s: float
    phase: UpdatePhase | None = None
    """Latest phase that the device reported under `command`; a phase that ends the update is never replaced."""
    phase_reason: str = ""
    started_s: float | None = None
    """When the fleet first heard of this command from the device."""
    ended_s: float | None = None
    """When the fleet first heard a phase that ends the update."""
    rollback_command: str | None = None
    rollback_version: str | None = None
    rollback_bundle: str | None = None
    """What it was ordered back to: not always `previous_bundle` (orders/regime.py)."""
    rolled_back_s: float | None = None
    """When the way back was ordered."""
    rollback_phase: UpdatePhase | None = None
    withdrawn_s: float | None = None
    """When the order was taken back from a device that has no way back (nothing ran before)."""
    arm: Arm = "treated"
    block: int = -1
    """Number of the block in which the arms were drawn, from 0 within the rollout; -1: a wave without controls."""
    site: str = ""
    drawn_s: float | None = None
    """When the arm was drawn; for a graduated control, `dispatched_s` is later. None: at `dispatched_s`."""
    attempt: int = 1
    """Grows with each retry; `command` then names the newest attempt."""


UNREPORTED: Final = {"phase": None, "phase_reason": "", "started_s": None, "ended_s": None}
"""An assignment's fields that its device's reports fill, as a new attempt begins with them."""
NOT_TAKEN_BACK: Final = {
    "rollback_command": None,
    "rollback_version": None,
    "rollback_bundle": None,
    "rolled_back_s": None,
    "rollback_phase": None,
    "withdrawn_s": None,
}
"""An assignment's fields that say how its order was taken back, before it was."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision with the numbers behind it, for the audit log."""

    at_s: float
    rollout: str
    wave: int
    action: str
    """`wave_started`, `wave_passed`, `board_halted`, `graduating`, or a word of `rollout.ACTION_WORD`."""
    reason: str
    actor: str
    """`gate`, `fleet`, or who asked."""
    numbers: dict[str, Number] = {}


class SaveRollout(msgspec.Struct, frozen=True, kw_only=True, tag="save_rollout"):
    """Replace the rollout's row (only if the stored revision is one less)."""

    rollout: Rollout


class Assign(msgspec.Struct, frozen=True, kw_only=True, tag="assign"):
    """Insert this assignment and make its bundle the device's desired state under `assignment.command`."""

    assignment: Assignment


class RollBack(msgspec.Struct, frozen=True, kw_only=True, tag="roll_back"):
    """Make this bundle the device's desired state with rollback=true under this new command id."""

    device: str
    command: str
    version: str
    bundle: str
    at_s: float


class Withdraw(msgspec.Struct, frozen=True, kw_only=True, tag="withdraw"):
    """Remove the model from the device's desired state: nothing ran before, so there is nothing to go back to."""

    device: str
    at_s: float


class Graduate(msgspec.Struct, frozen=True, kw_only=True, tag="graduate"):
    """Turn a control into `graduated` and make the release its desired state under `assignment.command`.

    The whole new row comes with it: `arm`, `wave`, `position`, `dispatched_s` and the way back are new.
    """

    assignment: Assignment


class Retry(msgspec.Struct, frozen=True, kw_only=True, tag="retry"):
    """Order a device again that failed, or whose order an emergency stop took back, under a new command id."""

    device: str
    command: str
    attempt: int
    at_s: float


class SaveMemory(msgspec.Struct, frozen=True, kw_only=True, tag="save_memory"):
    """Keep what the control gates have learnt, and append the observations that they learnt from to the audit log."""

    memory: GateMemory
    learnt: tuple[BlockOutcome, ...]


class Record(msgspec.Struct, frozen=True, kw_only=True, tag="record"):
    """Append the decision to the audit log."""

    decision: Decision


class Alert(msgspec.Struct, frozen=True, kw_only=True, tag="alert"):
    """Tell people. Raised once for each key; the rollout's row remembers it."""

    key: str
    target: str
    message: str
    numbers: dict[str, Number] = {}


Command = SaveRollout | Assign | RollBack | Withdraw | Graduate | Retry | SaveMemory | Record | Alert
