"""`edgewright fleet …`. The heavy parts are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .alert_cli import alert
from .client_options import INTERRUPTED, PATH, client_options, connect_from, examples, place_of, place_options, show
from .experiment_cli import experiment
from .explain_cli import explain
from .guard_cli import floor, lift, stop
from .rollout_cli import rollout
from .sim_cli import rehearse, trace


@click.group()
def fleet() -> None:
    """Serve the fleet, manage devices, releases and rollouts."""


@fleet.command(
    epilog=examples(
        "edgewright fleet serve --data ./fleet-data",
        "edgewright fleet serve --data /srv/fleet --listen 0.0.0.0:8600 --mqtt broker.lan:1883",
    )
)
@click.option(
    "--data",
    type=PATH,
    default="fleet-data",
    envvar="EDGEWRIGHT_FLEET_DATA",
    show_default=True,
    help="Directory of the database and the bundles; made if it is not there.",
)
@click.option("--listen", default="127.0.0.1:8600", show_default=True, help="Where the API and the console listen.")
@click.option("--mqtt", default="127.0.0.1:1883", show_default=True, help="Address of the MQTT broker.")
@click.option("--device-mqtt", default=None, help="Address of the broker as devices see it; default: that of --mqtt.")
@click.option(
    "--keep-days",
    type=click.FloatRange(0.1, 3660),
    default=7,
    show_default=True,
    help="Keep the windows of single devices for this long; their sums are kept for ever.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="A name by which browsers reach this server through a proxy; may be given several times.",
)
def serve(
    data: Path, listen: str, mqtt: str, device_mqtt: str | None, keep_days: float, names: tuple[str, ...]
) -> None:
    """Run the fleet server in the foreground; SIGTERM or Ctrl-C end it cleanly."""
    import logging  # not at the top: start-up time
    import signal

    from .address import parse_address
    from .server import Options, Started
    from .server import serve as run

    options = Options(
        data=data,
        listen=parse_address(listen, option="--listen"),
        mqtt=parse_address(mqtt, option="--mqtt"),
        device_mqtt=parse_address(device_mqtt or mqtt, option="--device-mqtt"),
        keep_days=keep_days,
        names=names,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not options.listen.loopback:
        click.echo("warning: this is plain HTTP, open to the network; put a proxy with TLS before it", err=True)

    def on_started(started: Started) -> None:
        click.echo(f"fleet server at {started.url}, data in {data}")
        click.echo(f"console: {started.login_link}")

    if run(options, on_started=on_started) == signal.SIGINT:
        raise SystemExit(INTERRUPTED)


@fleet.group()
def device() -> None:
    """Enrolled devices, and tokens that enrol new ones."""


@device.command("ls", epilog=examples("edgewright fleet device ls", "edgewright fleet device ls --json"))
@client_options
def device_ls(**options: Any) -> None:
    """List the devices: what they run, when they were heard last."""
    from . import tables

    client = connect_from(options)
    found: dict[str, Any] = {"devices": []}
    after: str | None = ""
    while after is not None:
        page = client.get("/v1/devices", after=after)
        found = page | {"devices": found["devices"] + page["devices"]}
        after = page["after"]
    show(found, options, tables.devices)


@device.command(
    "token",
    epilog=examples(
        "edgewright fleet device token --label camera-7 --hours 1",
        "edgewright fleet device token --site hall-2 --time-zone Europe/Berlin --set line=3",
    ),
)
@click.option("--label", default="", help="A note for the audit log: whom the token is for.")
@click.option("--hours", type=click.FloatRange(0.01, 2160), default=24, show_default=True, help="Valid for this long.")
@place_options
@client_options
def device_token(label: str, hours: float, **options: Any) -> None:
    """Make a token that enrols one device, once. The device takes over site, time zone and labels."""
    body = {"label": label, "lifetime_s": int(hours * 3600), **place_of(options)}
    made = connect_from(options).post("/v1/tokens", body)
    click.echo(json.dumps(made) if options["as_json"] else made["token"])


@device.command(
    "set",
    epilog=examples(
        "edgewright fleet device set camera-7 --site hall-2 --time-zone Europe/Berlin",
        "edgewright fleet device set camera-7 --set line=3 --unset spare",
    ),
)
@click.argument("name")
@click.option("--unset", multiple=True, metavar="NAME", help="Take a label away; may be given several times.")
@place_options
@client_options
def device_set(name: str, unset: tuple[str, ...], **options: Any) -> None:
    """Say where a device stands: for queries, limits per site and maintenance windows."""
    from . import tables
    from .client import segment

    body = place_of(options)
    body["labels"] = {**body.get("labels", {}), **dict.fromkeys(unset)}
    show(connect_from(options).patch(f"/v1/devices/{segment(name)}", body), options, tables.place)


@device.command("rm", epilog=examples("edgewright fleet device rm camera-7"))
@click.argument("name")
@client_options
def device_rm(name: str, **options: Any) -> None:
    """Remove a device: its secret is void at once, its name is free, its history stays."""
    from .client import segment  # not at the top: start-up time

    connect_from(options).delete(f"/v1/devices/{segment(name)}")
    click.echo(json.dumps({"removed": name}) if options["as_json"] else f"removed {name}")


@fleet.group()
def release() -> None:
    """Releases: the bundles of one model version, one per target."""


@release.command("add", epilog=examples("edgewright fleet release add out/*.bundle"))
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--release-version", default=None, help="Refuse bundles of another version than this.")
@client_options
def release_add(bundles: tuple[Path, ...], release_version: str | None, **options: Any) -> None:
    """Upload bundles of one model version and make a release of them."""
    from rich.progress import track  # not at the top: start-up time

    from . import tables
    from .faults import FleetError

    client = connect_from(options)
    uploaded = [
        client.upload(path)
        for path in track(bundles, description="uploading", transient=True, disable=len(bundles) < 2)
    ]
    names = {(each["model"], each["version"]) for each in uploaded}
    if len(names) > 1:
        listed = ", ".join(f"{model} {version}" for model, version in sorted(names))
        raise FleetError(f"the bundles are of different models or versions ({listed}); a release holds one")
    ((model, version),) = names
    if release_version not in (None, version):
        raise FleetError(f"the bundles have version {version!r}, --release-version is {release_version!r}")
    body = {"model": model, "version": version, "bundles": [each["digest"] for each in uploaded]}
    show(client.post("/v1/releases", body), options, lambda made: tables.releases({"releases": [made]}))


@release.command("ls", epilog=examples("edgewright fleet release ls"))
@client_options
def release_ls(**options: Any) -> None:
    """List the releases, newest first."""
    from . import tables

    show(connect_from(options).get("/v1/releases"), options, tables.releases)


@fleet.group()
def drift() -> None:
    """Whether live traffic still looks like the calibration data."""


@drift.command("show", epilog=examples("edgewright fleet drift show", "edgewright fleet drift show digits --hours 2"))
@click.argument("model", required=False)
@click.option("--hours", type=click.FloatRange(0.001, 8784), default=24, show_default=True, help="How far back.")
@client_options
def drift_show(model: str | None, hours: float, **options: Any) -> None:
    """Compare live traffic with the reference that came with each bundle."""
    from . import tables

    show(connect_from(options).get("/v1/drift", model=model, span_s=hours * 3600), options, tables.drift)


@fleet.group()
def audit() -> None:
    """The log of everything that was done and decided."""


@audit.command(
    "show",
    epilog=examples(
        "edgewright fleet audit show",
        "edgewright fleet audit show --subject rollout:r-12ab34cd",
        "edgewright fleet audit show --all --json > audit.json",
    ),
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Newest entries to show.")
@click.option("--all", "every", is_flag=True, help="All entries, not only the newest.")
@click.option("--subject", default=None, help="Only entries about this, for example `rollout:ID`.")
@client_options
def audit_show(limit: int, every: bool, subject: str | None, **options: Any) -> None:
    """Show the newest entries."""
    from . import tables
    from .explain_cli import all_entries

    client = connect_from(options)
    if every:
        found = {"entries": all_entries(client, subject)}
    else:
        found = client.get("/v1/audit", limit=limit, subject=subject)
    show(found, options, tables.audit)


@audit.command(
    "verify",
    epilog=examples("edgewright fleet audit verify", "edgewright fleet audit verify --head 12:sha256:…"),
)
@click.option("--head", default=None, help="A head that you noted earlier: the log must still contain it.")
@client_options
def audit_verify(head: str | None, **options: Any) -> None:
    """Check that no entry was changed, removed or slipped in; exit 1 if one was."""
    verdict = connect_from(options).get("/v1/audit/verify", head=head)
    if options["as_json"]:
        click.echo(json.dumps(verdict, indent=2))
    elif verdict["intact"]:
        click.echo(f"intact: {verdict['entries']} entries, head {verdict['head']}")
    else:
        click.echo(f"NOT INTACT after {verdict['entries']} good entries: {verdict['problem']}", err=True)
    if not verdict["intact"]:
        raise SystemExit(1)


fleet.add_command(alert)
fleet.add_command(rollout)
fleet.add_command(explain)
fleet.add_command(experiment)
for _guard in (stop, lift, floor):
    fleet.add_command(_guard)
fleet.add_command(rehearse)
fleet.add_command(trace)
