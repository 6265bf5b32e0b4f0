"""`edgewright fleet rollout …`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .client_options import INTERRUPTED, PATH, client_options, connect_from, examples, show

WATCH_S = 1.0
ENDED = {"completed", "rolled_back", "aborted", "superseded"}
SHOWN = 50
STATES = (
    "control",
    "ordered",
    "fetching",
    "installing",
    "trial",
    "activating",
    "probation",
    "confirmed",
    "refused",
    "failed",
    "rolled_back",
    "withdrawn",
    "going_back",
    "went_back",
)
"""Those of store/order_pages.py, spelled out so that `--help` answers at once; a test compares the two."""


@click.group()
def rollout() -> None:
    """Roll a release out wave by wave; gates stop it and take it back by themselves."""


@rollout.command(
    epilog=examples(
        "edgewright fleet rollout create digits 2",
        "edgewright fleet rollout create digits 2 --waves 1,10%,rest --watch",
        "edgewright fleet rollout create digits 2 --policy policy.toml",
    )
)
@click.argument("model")
@click.argument("version")
@click.option("--policy", type=PATH, default=None, help="Policy file, .toml or .json (docs/guides/rollouts.md).")
@click.option("--waves", default=None, help='Devices that each wave adds, for example "1,10%,rest".')
@click.option("--watch", is_flag=True, help="Stay and show how it goes until it ends.")
@client_options
def create(model: str, version: str, policy: Path | None, waves: str | None, watch: bool, **options: Any) -> None:
    """Start to roll a release out."""
    from . import tables

    client = connect_from(options)
    body = {"model": model, "version": version, "policy": _policy(policy, waves)}
    made = client.post("/v1/rollouts", body)
    if watch:
        _watch(client, made["id"], options, {})
    else:
        show(made, options, lambda value: tables.rollouts({"rollouts": [value]}))


@rollout.command(
    epilog="""\b
Examples:
  edgewright fleet rollout status
  edgewright fleet rollout status r-12ab34cd --watch
  edgewright fleet rollout status r-12ab34cd --state failed --board raspberry-pi-4

A large rollout has more devices than a terminal shows: --limit says how many, --after goes on behind the last one.
With --json and none of these options all of them come.
With --watch, exit 0 says that the rollout completed, exit 1 that it was rolled back, aborted or superseded.
"""
)
@click.argument("rollout_id", metavar="[ROLLOUT]", required=False)
@click.option("--watch", is_flag=True, help="Stay and show how it goes until it ends.")
@click.option("--limit", type=click.IntRange(0, 10_000), help=f"Devices to show; {SHOWN} in a table.")
@click.option("--after", type=click.IntRange(0), help="Go on behind this place, as the page before says.")
@click.option("--state", type=click.Choice(STATES), help="Only devices in this state.")
@click.option("--board", metavar="TARGET", help="Only devices of this board.")
@click.option("--site", help="Only devices of this site.")
@client_options
def status(
    rollout_id: str | None,
    watch: bool,
    limit: int | None,
    after: int | None,
    state: str | None,
    board: str | None,
    site: str | None,
    **options: Any,
) -> None:
    """Show all rollouts, or one with its devices and gates."""
    from . import tables
    from .client import segment
    from .faults import FleetError

    client = connect_from(options)
    page: dict[str, Any] = {"limit": limit, "after": after, "state": state, "board": board, "site": site}
    if rollout_id is None:
        if watch or any(value is not None for value in page.values()):
            raise FleetError("which rollout? `edgewright fleet rollout status` lists them; name one for its devices")
        show(client.get("/v1/rollouts"), options, tables.rollouts)
    elif watch:
        _watch(client, rollout_id, options, page)
    else:
        if limit is None and not options["as_json"]:
            page["limit"] = SHOWN
        show(client.get(f"/v1/rollouts/{segment(rollout_id)}", **page), options, tables.rollout)


def _button(event: str, text: str) -> click.Command:
    @rollout.command(event, help=text, epilog=examples(f"edgewright fleet rollout {event} r-12ab34cd --reason later"))
    @click.argument("rollout_id", metavar="ROLLOUT")
    @click.option("--reason", default="", help="A note for the audit log.")
    @client_options
    def press(rollout_id: str, reason: str, **options: Any) -> None:
        from . import tables
        from .client import segment

        client = connect_from(options)
        changed = client.post(f"/v1/rollouts/{segment(rollout_id)}/{event}", {"reason": reason})
        show(changed, options, lambda value: tables.rollouts({"rollouts": [value]}))

    return press


_button("approve", "Say yes to the wave that waits for it.")
_button("pause", "Give no further orders; devices under way finish.")
_button("resume", "Go on with a paused rollout.")
_button("abort", "Stop for good and leave every device as it is.")


@rollout.command(
    "rollback",
    epilog=examples(
        "edgewright fleet rollout rollback r-12ab34cd --reason complaints",
        "edgewright fleet rollout rollback r-12ab34cd --board raspberry-pi-4",
    ),
)
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--board", default=None, metavar="TARGET", help="Only the devices of this board; the others go on.")
@click.option("--reason", default="", help="A note for the audit log.")
@client_options
def roll_back(rollout_id: str, board: str | None, reason: str, **options: Any) -> None:
    """Send devices back to what they ran before, or to the last release that was good and fits the present data."""
    from . import tables
    from .client import segment

    path = f"/v1/rollouts/{segment(rollout_id)}"
    path += "/rollback" if board is None else f"/boards/{segment(board)}/rollback"
    changed = connect_from(options).post(path, {"reason": reason})
    show(changed, options, lambda value: tables.rollouts({"rollouts": [value]}))


def _policy(path: Path | None, waves: str | None) -> dict[str, Any]:
    import json

    from .core.policy.policy import Policy, policy_to_json, read_policy

    given: dict[str, Any] = json.loads(policy_to_json(read_policy(path) if path else Policy()))
    if waves is not None:
        given["waves"] = [int(wave) if wave.strip().isdecimal() else wave.strip() for wave in waves.split(",")]
    return given


def _watch(client: Any, rollout_id: str, options: dict[str, Any], page: dict[str, Any]) -> None:
    import json

    from rich.console import Console
    from rich.live import Live

    from . import tables
    from .client import segment

    path = f"/v1/rollouts/{segment(rollout_id)}"
    some = page if page.get("limit") is not None else page | {"limit": SHOWN}
    try:
        view = client.get(path, **some)
        console = Console(stderr=options["as_json"])
        with Live(tables.rollout(view), console=console, auto_refresh=False) as live:
            while view["rollout"]["state"] not in ENDED:
                time.sleep(WATCH_S)
                view = client.get(path, **some)
                live.update(tables.rollout(view), refresh=True)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    if options["as_json"]:
        click.echo(json.dumps(client.get(path, **page), indent=2))
    if view["rollout"]["state"] != "completed":
        raise SystemExit(1)
