"""`edgewright device routes`: what stands between the names that clients ask and the models that answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from .device_options import json_option, state_option

_MAX_READ = 1024 * 1024
"""More than any routes; what is too long is refused by the daemon, with its limit."""


@click.group()
def routes() -> None:
    """Show and switch the routes: split, canary, shadow, cascade, fallback."""


@routes.command(epilog="Example: edgewright device routes show > routes.toml")
@state_option
@json_option
def show(state: Path, as_json: bool) -> None:
    """Print the routes that hold now, as they were applied."""
    from .agent.client import ask  # start-up time: not needed for --help

    text = list(ask(state, op="routes"))[-1]["result"]["toml"]
    if as_json:
        import tomllib  # start-up time: only here

        click.echo(json.dumps(tomllib.loads(text)))
    else:
        click.echo(text or "# no routes; switch some on with: edgewright device routes apply FILE", nl=not text)


@routes.command(epilog="Example: edgewright device routes apply routes.toml")
@state_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@json_option
def apply(state: Path, file: Path, as_json: bool) -> None:
    """Switch all routes to those in FILE (- for standard input); requests under way end on the old ones."""
    _switch(state, _read(file), as_json=as_json)


@routes.command(epilog="Example: edgewright device routes clear")
@state_option
@json_option
def clear(state: Path, as_json: bool) -> None:
    """Switch all routes off: every name means its model."""
    _switch(state, "", as_json=as_json)


def _read(file: Path) -> str:
    from edgewright.targets.faults import UserFault  # start-up time: not needed for --help

    try:
        if str(file) == "-":
            return sys.stdin.read(_MAX_READ)
        with file.open(encoding="utf-8") as opened:
            return opened.read(_MAX_READ)
    except OSError as error:
        raise UserFault(f"cannot read the routes {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserFault(f"the routes {file} are not UTF-8 text: {error}") from error


def _switch(state: Path, text: str, *, as_json: bool) -> None:
    from .agent.client import ask  # start-up time: not needed for --help

    result = list(ask(state, op="set_routes", text=text))[-1]["result"]
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(f"Routes: {', '.join(result['routes'])}." if result["routes"] else "No routes.")
    if result["not_installed"]:
        click.echo(
            f"Not installed, and skipped or told 503 until it is: {', '.join(result['not_installed'])}.", err=True
        )
