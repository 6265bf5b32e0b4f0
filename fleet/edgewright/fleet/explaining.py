"""Explains a rollout: from the store, or offline from audit entries in a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from .core.explain.explain import Explanation, NotExplainable, explain
from .faults import FleetError
from .store import audit_log, rollouts
from .store.database import Database
from .trust.audit import AuditEntry, problems_of

MAX_LOG_BYTES = 1024 * 1024 * 1024
SUBJECT = "rollout:"


class _Page(msgspec.Struct, frozen=True):
    """What `edgewright fleet audit show --json` prints."""

    entries: list[AuditEntry]


def explain_rollout(database: Database, rollout: str) -> Explanation:
    """Compute a rollout's decisions again from the audit log in the store.

    Raises:
        NotFoundError: there is no such rollout.
        NotExplainable: it was made before the log held enough for this.
    """
    with database.read() as connection:
        rollouts.get(connection, rollout)
        entries = list(audit_log.about(connection, SUBJECT + rollout))
    return explain(entries, problems_of(entries))


def explain_file(path: Path, rollout: str | None) -> Explanation:
    """Compute a rollout's decisions again from a file of audit entries; no server is needed.

    Args:
        path: JSON: a list of entries, or what `edgewright fleet audit show --json` prints, in any order.
        rollout: which one; None where the file holds only one.

    Raises:
        FleetError: the file cannot be read or holds no such rollout.
        NotExplainable: it does not hold all that is needed.
    """
    entries = sorted(read_entries(path), key=lambda entry: entry.seq)
    problems = [*problems_of(entries), *_gaps(entries)]
    subject = SUBJECT + (rollout or _only_rollout(entries, path))
    own = [entry for entry in entries if entry.subject == subject]
    if not own:
        raise FleetError(f"{path} holds no entry about {subject}; it has {_listed(_rollouts_of(entries))}")
    try:
        return explain(own, problems)
    except NotExplainable as error:
        raise NotExplainable(
            f"{path}: {error}. `edgewright fleet audit show --json --all --subject {subject}` prints all that is needed"
        ) from error


def read_entries(path: Path) -> list[AuditEntry]:
    """Return the audit entries in a file.

    Raises:
        FleetError: it cannot be read, is too large, or holds something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOG_BYTES + 1)  # a device or a pipe has no size to ask for
    except OSError as error:
        raise FleetError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MAX_LOG_BYTES:
        raise FleetError(f"{path} has more than {MAX_LOG_BYTES} bytes; give the entries of one rollout (--subject)")
    kind: Any = list[AuditEntry] if data.lstrip()[:1] == b"[" else _Page
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise FleetError(
            f"{path} does not hold audit entries as `edgewright fleet audit show --json` prints them: {error}"
        ) from error
    return found.entries if isinstance(found, _Page) else list(found)


def _gaps(entries: Sequence[AuditEntry]) -> list[str]:
    """Name entries that are missing. Entries about one thing only are picked out of a log, and have gaps."""
    if len({entry.subject for entry in entries}) < 2:
        return []
    return [
        f"entry {one.seq + 1} is missing: the next one found is {other.seq}"
        for one, other in pairwise(entries)
        if other.seq > one.seq + 1
    ]


def _only_rollout(entries: Sequence[AuditEntry], path: Path) -> str:
    found = _rollouts_of(entries)
    if len(found) != 1:
        raise FleetError(f"{path} holds {_listed(found)}: name one, `edgewright fleet explain ROLLOUT --from {path}`")
    return found[0]


def _rollouts_of(entries: Iterable[AuditEntry]) -> list[str]:
    return sorted({entry.subject.removeprefix(SUBJECT) for entry in entries if entry.subject.startswith(SUBJECT)})


def _listed(found: Sequence[str]) -> str:
    return f"rollouts {', '.join(found[:20])}" + (" …" if len(found) > 20 else "") if found else "no rollout at all"
