"""Options that every `edgewright device` command has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

DEFAULT_STATE = "/var/lib/edgewright" if os.geteuid() == 0 else "~/.local/state/edgewright"

Command = TypeVar("Command", bound=Callable[..., None])


def state_option(command: Command) -> Command:
    """`--state-dir`, passed as `state`."""
    return click.option(
        "--state-dir",
        "state",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_STATE,
        envvar="EDGEWRIGHT_STATE_DIR",
        show_default=True,
        show_envvar=True,
        callback=lambda _context, _option, value: value.expanduser(),
        help="Where the device keeps its models, its spool and its credentials.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)
