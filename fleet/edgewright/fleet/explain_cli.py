"""`edgewright fleet explain …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .client_options import PATH, client_options, connect_from, examples

if TYPE_CHECKING:
    from .client import FleetClient

PAGE = 1000
"""Entries that the server gives at once."""


@click.command(
    epilog=examples(
        "edgewright fleet explain r-12ab34cd",
        "edgewright fleet audit show --all --subject rollout:r-12ab34cd --json > audit.json",
        "edgewright fleet explain r-12ab34cd --from audit.json",
    )
)
@click.argument("rollout_id", metavar="[ROLLOUT]", required=False)
@click.option("--from", "log", type=PATH, default=None, help="Audit entries in a JSON file; no server is asked.")
@client_options
def explain(rollout_id: str | None, log: Path | None, **options: Any) -> None:
    """Show the numbers behind each decision of a rollout, computed again from the audit log alone.

    Exit 1 where they do not come out as recorded, or where an entry was changed.
    """
    found = _offline(log, rollout_id) if log is not None else _ask(rollout_id, options)
    if options["as_json"]:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console  # not at the top: start-up time

        from .explain_tables import explanation

        Console().print(explanation(found))
    if not found["agrees"]:
        raise SystemExit(1)


def all_entries(client: FleetClient, subject: str | None) -> list[dict[str, Any]]:
    """Return every audit entry about one thing, or about anything (None), newest first."""
    from rich.console import Console  # not at the top: start-up time

    entries: list[dict[str, Any]] = []
    with Console(stderr=True).status("reading the audit log") as status:
        while True:
            before = entries[-1]["seq"] if entries else None
            page = client.get("/v1/audit", limit=PAGE, subject=subject, before=before)["entries"]
            entries += page
            status.update(f"reading the audit log: {len(entries)} entries")
            if len(page) < PAGE:
                return entries


def _offline(log: Path, rollout_id: str | None) -> dict[str, Any]:
    import msgspec  # not at the top: start-up time
    from rich.console import Console

    from .explaining import explain_file

    with Console(stderr=True).status(f"computing the decisions in {log} again"):
        found: dict[str, Any] = msgspec.to_builtins(explain_file(log, rollout_id))
    return found


def _ask(rollout_id: str | None, options: dict[str, Any]) -> dict[str, Any]:
    from .client import segment  # not at the top: start-up time
    from .faults import FleetError

    if rollout_id is None:
        raise FleetError("name a rollout; `edgewright fleet rollout status` lists those there are")
    found: dict[str, Any] = connect_from(options).get(f"/v1/rollouts/{segment(rollout_id)}/explain")
    return found
