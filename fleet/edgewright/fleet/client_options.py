"""What the client commands share: where the server is, and how a result is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from .client import FleetClient

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130
PATH = click.Path(path_type=Path)


def examples(*lines: str) -> str:
    """Return an epilog that click leaves as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def client_options(command: F) -> F:
    """Options of every command that talks to a server."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
        click.option("--token", envvar="EDGEWRIGHT_FLEET_TOKEN", help="Admin token; default: DATA/admin.token."),
        click.option("--url", envvar="EDGEWRIGHT_FLEET_URL", help="Address of the fleet server, http://host:port."),
        click.option(
            "--data", type=PATH, envvar="EDGEWRIGHT_FLEET_DATA", help="Data directory of the server (./fleet-data)."
        ),
    ):
        command = option(command)
    return command


def place_options(command: F) -> F:
    """Options that say where a device stands."""
    for option in (
        click.option("--set", "labels", multiple=True, metavar="NAME=VALUE", help="A label; several times for more."),
        click.option(
            "--time-zone", default=None, help="IANA name, for maintenance windows; for example Europe/Berlin."
        ),
        click.option("--site", default=None, help="The place: a shop, a hall, a vehicle."),
    ):
        command = option(command)
    return command


def place_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return what of the place was given.

    Raises:
        click.UsageError: a label without `=`.
    """
    odd = [given for given in options["labels"] if "=" not in given]
    if odd:
        raise click.UsageError(f"--set {odd[0]}: expected NAME=VALUE")
    labels = dict(given.split("=", 1) for given in options["labels"])
    given = {"site": options["site"], "time_zone": options["time_zone"], "labels": labels or None}
    return {name: value for name, value in given.items() if value is not None}


def connect_from(options: dict[str, Any]) -> FleetClient:
    """Return the client that the options name."""
    from .client import connect  # not at the top: start-up time

    return connect(url=options["url"], data=options["data"], token=options["token"])


def show(value: Any, options: dict[str, Any], table: Callable[[Any], object]) -> None:
    """Print a result as JSON or as what `table` makes of it."""
    if options["as_json"]:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    from rich.console import Console  # not at the top: start-up time

    Console().print(table(value))
