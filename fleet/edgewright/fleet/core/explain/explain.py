"""Computes every decision of a rollout again, from its audit entries and nothing else.

The entry of its creation holds policy and boards, so weights and limits; `rollout.evidence` holds what each block of
treated devices and controls gave to the tests, in order; a decision about failed installs holds after how many devices
each failure came. From these the e-values are folded anew, by the same code that the fleet decided with, and compared
with what each decision says. What hangs on numbers that the log only names (pooled traffic, counts of `abortConfig`) is
marked as recorded, and checked as far as its own numbers go.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgewright.targets.faults import UserFault

from ...trust.audit import AuditEntry
from ..gates.control import fold
from ..gates.weights import weights_of
from ..observations import BlockOutcome, GateMemory
from ..policy.policy import PolicyError, policy_from
from ..policy.sections import Action
from ..rows import BoardHalt, Number, ReleaseBundle, Rollout
from .recheck import GateCheck, as_it_stands, check_gate, disagreements, name_of, statements, tests_of

PREFIX = "rollout."
STOPS = frozenset({"board_halted", "rolling_back", "aborted", "paused"})
PASSES = frozenset({"wave_passed", "graduating", "completed", "following"})
UNFOLDABLE = (ValueError, LookupError, ArithmeticError, TypeError)


class NotExplainable(UserFault):
    """The entries do not hold what a rollout began with; the message says what is missing."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, with each gate that it speaks of."""

    seq: int
    at_s: float
    actor: str
    action: str
    wave: int
    reason: str
    blocks: int
    """Blocks of devices and controls that were learnt before it."""
    checks: tuple[GateCheck, ...]
    others: dict[str, Number]
    problems: tuple[str, ...]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout from its first entry to its last."""

    rollout: str
    model: str
    version: str
    boards: tuple[str, ...]
    alpha: float
    weights: dict[str, float]
    """Shares of alpha of a gate: the failure gate of all boards, that of one board; a metric over all boards, and one
    of one board."""
    entries: int
    blocks: int
    steps: tuple[Step, ...]
    tests: tuple[GateCheck, ...]
    """The tests against the controls as they stand after the last entry."""
    problems: tuple[str, ...]
    """Everything that does not fit, of all entries. Empty: the recomputed numbers are the recorded ones."""
    agrees: bool


def explain(entries: Sequence[AuditEntry], problems: Sequence[str] = ()) -> Explanation:
    """Return a rollout's decisions computed again.

    Args:
        entries: of one rollout, oldest first.
        problems: what is known to be wrong with the entries themselves.

    Raises:
        NotExplainable: the entries do not hold how the rollout was made.
    """
    replay = _Replay(problems)
    for entry in entries:
        replay.take(entry)
    return replay.explanation(len(entries))


class _Replay:
    def __init__(self, problems: Sequence[str]) -> None:
        self._rollout: Rollout | None = None
        self._memory = GateMemory()
        self._steps: list[Step] = []
        self._problems = list(problems)
        self._halted: dict[str, BoardHalt] = {}
        self._was_resumed = False

    def take(self, entry: AuditEntry) -> None:
        if not entry.action.startswith(PREFIX):
            return
        action = entry.action.removeprefix(PREFIX)
        if action == "created":
            self._begin(entry)
        elif self._rollout is None:
            return
        elif action == "evidence":
            self._learn(self._rollout, entry)
        elif isinstance(entry.detail.get("numbers"), dict):
            self._decide(self._rollout, entry, action)

    def explanation(self, entries: int) -> Explanation:
        rollout = self._rollout
        if rollout is None:
            raise NotExplainable(
                self._problems[-1]
                if self._problems
                else "the entries do not begin with `rollout.created`: give all of the rollout, from its first one on"
            )
        weights = weights_of(rollout)
        now = tests_of(msgspec.structs.replace(rollout, halted=tuple(self._halted.values())), self._memory)
        return Explanation(
            rollout=rollout.id,
            model=rollout.model,
            version=rollout.version,
            boards=tuple(sorted(bundle.target for bundle in rollout.bundles)),
            alpha=rollout.policy.alpha,
            weights={
                "failure": weights.pooled,
                "failure of a board": weights.board,
                "metric over all boards": weights.pooled_metric,
                "metric": weights.metric,
            },
            entries=entries,
            blocks=self._memory.next_block,
            steps=tuple(self._steps),
            tests=tuple(as_it_stands(status) for status in now.values()),
            problems=tuple(self._problems),
            agrees=not self._problems,
        )

    def _begin(self, entry: AuditEntry) -> None:
        detail = entry.detail
        try:
            self._rollout = Rollout(
                id=entry.subject.removeprefix("rollout:"),
                model=str(detail["model"]),
                version=str(detail["version"]),
                bundles=tuple(ReleaseBundle(target=t, digest=str(d)) for t, d in dict(detail["bundles"]).items()),
                policy=policy_from(detail["policy"], where=f"audit entry {entry.seq}"),
                seed=0,
                created_s=entry.at_s,
                gate_design=2 if detail.get("gate_design") == 2 else 1,
            )
        except (*UNFOLDABLE, PolicyError) as error:
            self._problems.append(f"entry {entry.seq} does not say how the rollout was made: {_text(error)}")

    def _learn(self, rollout: Rollout, entry: AuditEntry) -> None:
        try:
            blocks = msgspec.convert(entry.detail.get("blocks"), tuple[BlockOutcome, ...])
            for block in blocks:
                if block.number != self._memory.next_block:
                    due = self._memory.next_block
                    self._problems.append(f"entry {entry.seq}: holds block {block.number}, block {due} is due")
                self._memory = fold(rollout, self._memory, block)
        except UNFOLDABLE as error:
            self._problems.append(f"entry {entry.seq}: holds what no test was ever given: {_text(error)}")

    def _decide(self, rollout: Rollout, entry: AuditEntry, action: str) -> None:
        spoken, others = statements(entry.detail["numbers"])
        if others.get("failure_unit") in ("DEVICE", "SITE"):
            self._rollout = rollout = msgspec.structs.replace(rollout, failure_unit=others["failure_unit"])
        tests, learnt = tests_of(rollout, self._memory), self._memory.next_block
        problems: list[str] = []
        checks = []
        for (gate, target), numbers in spoken.items():
            try:
                checks += check_gate(rollout, self._memory, tests, gate, target, numbers)
            except UNFOLDABLE as error:
                problems.append(f"{name_of(gate, target)}: no gate says this: {_text(error)}")
        problems += [problem for check in checks for problem in disagreements(check)]
        unjust = self._unjust(entry, action, checks)
        problems += [unjust] if unjust else []
        if action == "board_halted":
            self._halt(entry, {str(others.get("target")), *(str(check.target) for check in checks)})
        elif action == "resumed":
            self._was_resumed = True
            self._halted = {target: halt for target, halt in self._halted.items() if halt.action != "PAUSE"}
        wave = entry.detail.get("wave")
        step = Step(
            seq=entry.seq,
            at_s=entry.at_s,
            actor=entry.actor,
            action=action,
            wave=wave if isinstance(wave, int) else -1,
            reason=str(entry.detail.get("reason", "")),
            blocks=learnt,
            checks=tuple(checks),
            others=others,
            problems=tuple(problems),
        )
        self._steps.append(step)
        self._problems += [f"entry {entry.seq} ({action}): {problem}" for problem in problems]

    def _halt(self, entry: AuditEntry, targets: set[str]) -> None:
        action: Action = "PAUSE" if entry.detail["numbers"].get("action") == "PAUSE" else "ROLLBACK"
        for target in targets:
            self._halted[target] = BoardHalt(target=target, action=action, reason="", at_s=entry.at_s)

    def _unjust(self, entry: AuditEntry, action: str, checks: Sequence[GateCheck]) -> str | None:
        """Return why the numbers do not lead to the decision; None where they do, or where it was a person's."""
        known = [check for check in checks if check.outcome is not None]
        if action in STOPS and entry.actor == "gate" and known:
            wanted = {"fail", "inconclusive"} if action == "paused" else {"fail"}
            if not any(check.outcome in wanted for check in known):
                return "the recomputed numbers are no reason for it"
        if action in PASSES and not self._was_resumed:
            against = [check for check in known if check.outcome == "fail" and check.target not in self._halted]
            if against:
                return f"{name_of(against[0].gate, against[0].target)} had failed by the recomputed numbers"
        return None


def _text(error: Exception) -> str:
    return f"{error}" if str(error) else type(error).__name__
