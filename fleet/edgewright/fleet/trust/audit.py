"""The audit chain: each entry carries the digest of the one before, so none can be changed, removed or slipped in.

Pure: entries in, digests and verdicts out. What the chain alone cannot show is that its *end* was cut off; for that,
keep a head (`seq:digest`, shown by `edgewright fleet audit verify`) elsewhere and give it to `verify`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec

GENESIS = "sha256:" + "0" * 64
"""`previous` of the first entry."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done or decided."""

    seq: int
    at_s: float
    actor: str
    """`admin`, `fleet` (decided by itself), or `device:<id>`."""
    action: str
    """Dotted, for example `rollout.roll-back`."""
    subject: str
    """What it was done to, for example `rollout:r-12`."""
    detail: dict[str, Any]
    """Enough to judge the decision again: limits, counts, statistics."""
    previous: str
    digest: str


class AuditVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of the chain found."""

    intact: bool
    entries: int
    head: str
    """`seq:digest` of the last entry that was checked."""
    problem: str
    """Empty when intact; else which entry, what was expected, what was found."""


def canonical(detail: dict[str, Any]) -> bytes:
    """Return the one JSON spelling of a detail."""
    return json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def next_entry(
    last: AuditEntry | None, *, at_s: float, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> AuditEntry:
    """Return the entry that follows `last`."""
    entry = AuditEntry(
        seq=last.seq + 1 if last else 1,
        at_s=float(at_s),  # 5 and 5.0 are written differently
        actor=actor,
        action=action,
        subject=subject,
        detail=detail,
        previous=last.digest if last else GENESIS,
        digest="",
    )
    return msgspec.structs.replace(entry, digest=_digest(entry))


def verify(entries: Iterable[AuditEntry], *, head: str | None = None) -> AuditVerdict:
    """Check the chain from its first entry, and that it contains `head` if one is given."""
    last: AuditEntry | None = None
    head_found = head is None
    for entry in entries:
        problem = _problem(last, entry)
        if problem:
            return _verdict(last, problem)
        last = entry
        head_found = head_found or head == head_of(entry)
    if not head_found:
        return _verdict(last, f"the log does not contain the head {head}: its end was cut off or written anew")
    return _verdict(last, "")


def problems_of(entries: Iterable[AuditEntry]) -> list[str]:
    """Check some entries of a log, oldest first: each against its digest, neighbours against each other.

    That a whole entry was taken out shows only where its neighbours are there: `verify` the whole log for that.
    """
    problems = []
    last: AuditEntry | None = None
    for entry in entries:
        is_next = last is not None and entry.seq == last.seq + 1
        if last is not None and entry.seq <= last.seq:
            problems.append(f"entry {entry.seq} comes after entry {last.seq}")
        elif entry.digest != _digest(entry):
            problems.append(f"entry {entry.seq} was changed: its digest is {_digest(entry)}, it claims {entry.digest}")
        elif last is not None and is_next and entry.previous != last.digest:
            problems.append(f"entry {entry.seq} names {entry.previous} before it; that one is {last.digest}")
        last = entry
    return problems


def head_of(entry: AuditEntry | None) -> str:
    """Return the short name of a chain that ends with this entry."""
    return f"{entry.seq}:{entry.digest}" if entry else f"0:{GENESIS}"


def _problem(last: AuditEntry | None, entry: AuditEntry) -> str:
    expected_seq = last.seq + 1 if last else 1
    if entry.seq != expected_seq:
        return f"entry {expected_seq} is missing: the next one found is {entry.seq}"
    expected_previous = last.digest if last else GENESIS
    if entry.previous != expected_previous:
        return f"entry {entry.seq} names {entry.previous} as the one before it; that one is {expected_previous}"
    if entry.digest != _digest(entry):
        return f"entry {entry.seq} was changed: its digest is {_digest(entry)}, it claims {entry.digest}"
    return ""


def _verdict(last: AuditEntry | None, problem: str) -> AuditVerdict:
    return AuditVerdict(intact=not problem, entries=last.seq if last else 0, head=head_of(last), problem=problem)


def _digest(entry: AuditEntry) -> str:
    fields = [entry.seq, entry.at_s, entry.actor, entry.action, entry.subject, entry.previous]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return "sha256:" + hashlib.sha256(text + b"\n" + canonical(entry.detail)).hexdigest()
