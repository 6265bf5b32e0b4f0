"""What the agent remembers about one model: the content of models/<model>/state.json. Pure data."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edgewright.targets.faults import UserFault

from ..telemetry.records import UpdatePhase, UpdateRecord

FORMAT_VERSION = 1
MAX_OUTCOMES = 32
"""So many finished commands are remembered, so that a repeated one is not carried out twice."""

SlotName = Literal["A", "B"]
RunningPhase = Literal["fetching", "installing", "trial", "activating", "probation"]

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only, and unknown keys are refused."""


class Order(_Strict, frozen=True, kw_only=True):
    """A wish to run one bundle: from the fleet, or from the person at the device."""

    command: str
    model: str
    version: str
    bundle: str
    """`sha256:…` of the archive."""
    security_epoch: int
    probation_s: float
    size_bytes: int
    source: str
    """Path on the fleet's HTTP server, or `file:` and the absolute path of an archive on this machine."""
    rollback: bool = False
    """The bundle in the other slot may be used as it is."""


class Slot(_Strict, frozen=True, kw_only=True):
    """A bundle that is unpacked in a slot."""

    bundle: str
    version: str
    security_epoch: int
    peak_bytes: int
    command: str
    """The order that put it here."""


class Update(_Strict, frozen=True, kw_only=True):
    """The update that is under way."""

    order: Order
    phase: RunningPhase
    slot: SlotName
    attempts: int = 0
    """Crashes, and starts after an end that nobody ordered, in this phase; too many end the update."""
    stopped: bool = False
    """The agent was told to stop: its next start is not counted as an attempt."""


class Outcome(_Strict, frozen=True, kw_only=True):
    """How an order ended."""

    command: str
    bundle: str
    version: str
    phase: UpdatePhase
    reason: str


class ModelState(_Strict, frozen=True, kw_only=True):
    """Everything about one model. `active` is the slot that the server shall load."""

    format: int = FORMAT_VERSION
    model: str
    active: SlotName | None = None
    rollback: SlotName | None = None
    """Where to go back to. Written before activation, and not rewritten until the update is over."""
    slots: dict[SlotName, Slot] = {}
    update: Update | None = None
    outcomes: tuple[Outcome, ...] = ()
    security_floor: int = 0
    """No bundle of a lower security epoch is run any more."""
    outbox: tuple[UpdateRecord, ...] = ()
    """Reports that are not yet safe in the spool."""

    @property
    def active_slot(self) -> Slot | None:
        """The bundle that the server shall run."""
        return self.slots.get(self.active) if self.active else None

    @property
    def rollback_slot(self) -> Slot | None:
        """The bundle that can be gone back to."""
        return self.slots.get(self.rollback) if self.rollback else None


class StateFileError(UserFault):
    """A state file is damaged, or written by a newer version."""


def other(slot: SlotName | None) -> SlotName:
    """Return the slot beside this one; A where there is none yet."""
    return "B" if slot == "A" else "A"


def check_model_name(name: str) -> str:
    """Return the name if it may be a directory name here.

    Raises:
        UserFault: it is empty, too long, or has other characters.
    """
    if _MODEL_NAME.fullmatch(name):
        return name
    raise UserFault(
        f"model name {name[:120]!r}: expected 1 to 100 of A-Z a-z 0-9 . _ -, starting with a letter or digit"
    )


def encode_state(state: ModelState) -> bytes:
    """Return the bytes of state.json."""
    return msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n"


def decode_state(content: bytes, where: str) -> ModelState:
    """Return the state in a file.

    Raises:
        StateFileError: not such a file, or of another format version.
    """
    try:
        state = msgspec.json.decode(content, type=ModelState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateFileError(f"{where} is damaged: {error}") from error
    if state.format != FORMAT_VERSION:
        raise StateFileError(f"{where}: format {state.format}; this agent reads {FORMAT_VERSION}")
    return state
