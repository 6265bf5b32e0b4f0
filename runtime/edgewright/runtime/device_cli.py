"""`edgewright device`: run the daemon, and look after it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .device_options import json_option, state_option
from .device_routes_cli import routes

if TYPE_CHECKING:
    from .agent.config import DeviceConfig

CTRL_C_EXIT_CODE = 130

_START_S = 3.0
"""A daemon that was started in the line before takes a moment."""


@click.group()
def device() -> None:
    """Run and look after the device daemon."""


device.add_command(routes)


@device.command(
    epilog="Examples: edgewright device run --state-dir ./device1 --listen 127.0.0.1:8001; "
    "edgewright device run --target raspberry-pi-5 --emulate"
)
@state_option
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration, TOML. [default: device.toml in the state directory, if there is one]",
)
@click.option("--target", help="Board that this device is. [default: host]")
@click.option("--emulate/--no-emulate", default=None, help="Rehearse a board that this machine is not.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Inference API. [default: 127.0.0.1:8000]")
def run(state: Path, config_path: Path | None, **given: Any) -> None:
    """Run the daemon in the foreground: serve models, update them, report to the fleet if there is one."""
    # Start-up time: the server process is started by this import's run_daemon before anything else is imported.
    from .agent.daemon import run_daemon

    if run_daemon(state, _config(state, config_path, given)) == signal.SIGINT:
        raise SystemExit(CTRL_C_EXIT_CODE)


@device.command(epilog="Example: edgewright device enroll --fleet http://fleet.local:8600 --token 4f2a…")
@state_option
@click.option("--fleet", "fleet_url", required=True, metavar="URL", help="Address of the fleet server.")
@click.option(
    "--token", required=True, envvar="EDGEWRIGHT_TOKEN", help="One-time token from `edgewright fleet device token`."
)
@click.option("--name", help="Name to ask for. [default: the fleet chooses]")
@click.option("--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), help="Configuration, TOML.")
@click.option("--target", help="Board that this device is. [default: host]")
@click.option("--emulate/--no-emulate", default=None, help="Rehearse a board that this machine is not.")
@json_option
def enroll(
    state: Path, fleet_url: str, token: str, name: str | None, config_path: Path | None, as_json: bool, **given: Any
) -> None:
    """Make this device a member of a fleet; a running daemon connects at once."""
    # Start-up time: HTTP and board data are needed here only.
    from edgewright.targets.faults import EnvironmentFault

    from .agent.client import ask
    from .agent.credentials import write_credentials
    from .agent.enroll import enroll as ask_fleet

    credentials = ask_fleet(fleet_url, token, name, _config(state, config_path, given))
    state.mkdir(parents=True, exist_ok=True)
    write_credentials(state, credentials)
    try:
        told = bool(list(ask(state, op="enrolled")))
    except EnvironmentFault:  # no daemon runs yet: it will find the credentials when it starts
        told = False
    result = {"device": credentials.device, "tenant": credentials.tenant, "connecting": told}
    if as_json:
        click.echo(json.dumps(result))
    else:
        after = "The daemon connects now." if told else "The daemon connects when it starts."
        click.echo(f"Enrolled as {credentials.device}. {after}")


@device.command(epilog="Example: edgewright device install out/host.bundle --wait confirmed")
@state_option
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--wait",
    type=click.Choice(["probation", "confirmed"]),
    default="probation",
    show_default=True,
    help="Return when the bundle serves, or when it is confirmed.",
)
@json_option
def install(state: Path, bundle: Path, wait: str, as_json: bool) -> None:
    """Install a bundle from a file: verify, try, activate. What serves now serves on if that fails."""
    from .agent.client import ask  # start-up time: not needed for --help

    messages = ask(state, patience_s=_START_S, op="install", path=str(bundle.absolute()), wait=wait)
    result = _follow(messages, as_json=as_json)
    if not as_json:
        note = f" ({result['reason']})" if result["reason"] else ""
        click.echo(f"{result['model']} {result['version']} is active, phase {result['phase']}{note}.")


@device.command(epilog="Example: edgewright device rollback digits")
@state_option
@click.argument("model")
@json_option
def rollback(state: Path, model: str, as_json: bool) -> None:
    """Go back to the bundle in the other slot, or end an update that is in probation."""
    from .agent.client import ask  # start-up time: not needed for --help

    result = _follow(ask(state, op="rollback", model=model), as_json=as_json)
    if not as_json:
        click.echo(f"{result['model']}: {result['phase'].replace('_', ' ')}, version {result['version']}.")


@device.command(epilog="Example: edgewright device status --json")
@state_option
@json_option
def status(state: Path, as_json: bool) -> None:
    """Show what the daemon does now: its models, its server, its spool and its link."""
    from .agent.client import ask  # start-up time: not needed for --help

    result = list(ask(state, op="status"))[-1]["result"]
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        click.echo("\n".join(_status_lines(result)))


@device.command("restart-server", epilog="Example: edgewright device restart-server")
@state_option
@json_option
def restart_server(state: Path, as_json: bool) -> None:
    """Replace the server process: a new one loads the models, takes over the connections, then the old one ends."""
    from .agent.client import ask  # start-up time: not needed for --help

    server = list(ask(state, op="restart_server"))[-1]["result"]
    click.echo(json.dumps(server) if as_json else f"Process {server['pid']} serves now; no request was lost.")


@device.command(epilog="Example: edgewright device logs --follow")
@state_option
@click.option(
    "--lines",
    "-n",
    "count",
    type=click.IntRange(1, 100_000),
    default=40,
    show_default=True,
    help="Newest lines to show.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--of", type=click.Choice(["agent", "server", "trial"]), default="agent", show_default=True, help="Whose log."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def logs(state: Path, count: int, follow: bool, of: str, as_json: bool) -> None:
    """Show the log; works also when the daemon does not run."""
    from edgewright.targets.faults import UserFault  # start-up time: not needed for --help

    path = state / f"{of}.log"
    if not path.exists():
        raise UserFault(f"no log {path}: has a daemon run with --state-dir {state}?")
    for line in _log_lines(path, count, follow=follow):
        click.echo(json.dumps({"log": of, "line": line}) if as_json else line)


def _config(state: Path, path: Path | None, given: dict[str, Any]) -> DeviceConfig:
    """Configuration file first, then what the command line says."""
    import msgspec  # start-up time: not needed for --help

    from .agent.config import DeviceConfig, read_config

    default = state / "device.toml"
    chosen = path or (default if default.exists() else None)
    config = read_config(chosen) if chosen else DeviceConfig()
    return msgspec.structs.replace(config, **{key: value for key, value in given.items() if value is not None})


def _follow(messages: Iterator[dict[str, Any]], *, as_json: bool) -> dict[str, Any]:
    """Show the steps while they come, on standard error; return the last."""
    from rich.console import Console  # start-up time: only where something is shown while it runs

    console = Console(stderr=True)
    result: dict[str, Any] = {}
    with console.status("asking the daemon") as shown:
        for message in messages:
            result = message.get("result", message)
            if not as_json:
                shown.update(f"{result['model']} {result['version']}: {result['phase']}")
                if "result" not in message and not console.is_terminal:
                    console.print(f"{result['model']} {result['version']}: {result['phase']}", highlight=False)
    if as_json:
        click.echo(json.dumps(result))
    return result


def _status_lines(result: dict[str, Any]) -> Iterator[str]:
    server, fleet, spool = result["server"], result["fleet"], result["spool"]
    claims = " (emulated)" if result["emulated"] else ""
    yield f"{result['software']} on {result['target']}{claims}, up {result['uptime_s']:.0f} s"
    running = f"process {server['pid']}, {server['crashes']} crashes" if server["running"] else "not running"
    yield f"server   {running}, {'https' if result['tls'] else 'http'}://{result['listen']}"
    connected = "connected" if fleet["connected"] else f"not connected: {fleet['problem']}"
    yield f"fleet    {fleet['device']}, {connected}" if fleet["enrolled"] else "fleet    not enrolled"
    yield f"spool    {spool['backlog']} records wait, {spool['bytes']} of {spool['max_bytes']} bytes"
    for model in result["models"]:
        yield f"model    {_model_line(model)}"
    for listener in result["listeners"][1:]:
        yield f"listens  {listener['kind']}: {listener['address']}"
    if result["grpc"]:
        yield f"listens  gRPC: {result['grpc']}"
    if result["routes"]:
        yield f"routes   {', '.join(result['routes'])}"
    for problem in result["problems"]:
        yield f"problem  {problem}"
    if not result["models"]:
        yield "model    none; install one with: edgewright device install BUNDLE"


def _model_line(model: dict[str, Any]) -> str:
    parts = [f"{model['model']} {model['version'] or 'nothing active'}"]
    if model["slot"]:
        parts.append(f"slot {model['slot']}")
    parts.append(model["phase"] + (f" of {model['updating_to']}" if model["updating_to"] else ""))
    if model["rollback_version"]:
        parts.append(f"can go back to {model['rollback_version']}")
    breaker = model["breaker"]
    if breaker:
        parts.append(f"breaker {breaker['state'].replace('_', ' ')}: {breaker['reason']}")
    parts += [
        f"{each['version']} crashed the server {each['crashes']} times"
        for each in model["blamed"]
        if not (breaker and each["version"] == model["version"])
    ]
    last = model["last_outcome"]
    if last and last["phase"] != "confirmed":
        parts.append(f"last update: {last['version']} {last['phase'].replace('_', ' ')}: {last['reason']}")
    return ", ".join(parts)


def _log_lines(path: Path, count: int, *, follow: bool) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from [line.rstrip("\n") for line in file][-count:]
        while follow:
            line = file.readline()
            if line:
                yield line.rstrip("\n")
            elif path.stat().st_size < file.tell():
                file.seek(0)
            else:
                time.sleep(0.2)
