"""`edgewright fleet rehearse` and `edgewright fleet trace …`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .client_options import PATH, client_options, connect_from, examples, show

if TYPE_CHECKING:
    from rich.console import RenderableType

SCENARIOS = (
    "good",
    "at-limit",
    "bad-build",
    "catastrophe",
    "bad-board",
    "sites",
    "crashes",
    "less-accurate",
    "slower",
    "hungrier",
    "more-errors",
    "site-drift",
    "silent",
    "skewed",
    "herd",
)
"""Those of sim/scenario.py, spelled out so that `--help` answers at once; a test compares the two."""
MOST_RUNS = 1000


@click.command(
    epilog=examples(
        "edgewright fleet rehearse policy.toml --fleet trace.json",
        "edgewright fleet rehearse policy.toml --fleet trace.json --svg risk.svg",
        "edgewright fleet rehearse policy.toml --boards raspberry-pi-5=800",
    )
)
@click.argument("policy", type=PATH)
@click.option("--fleet", "trace", type=PATH, help="A trace (docs/formats/trace.md); `fleet trace export` writes one.")
@click.option("--boards", metavar="BOARD=DEVICES,…", help="Instead of a trace: a fleet made up.")
@click.option("--sites", type=click.IntRange(0, 100_000), default=0, help="With --boards: over so many sites.")
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice(SCENARIOS),
    metavar="NAME",
    multiple=True,
    help="What is wrong; several times for more. Default: good, at-limit, bad-build, bad-board. All: "
    + ", ".join(SCENARIOS)
    + ".",
)
@click.option("--runs", type=click.IntRange(1, MOST_RUNS), default=20, show_default=True, help="Of each scenario.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="The same seed, the same."
)
@click.option("--svg", type=PATH, help="Draw the runs into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def rehearse(
    policy: Path,
    trace: Path | None,
    boards: str | None,
    sites: int,
    scenarios: tuple[str, ...],
    runs: int,
    seed: int,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Run a rollout policy on a fleet that is not there: who is at risk, how long it takes, what it can find.

    The decisions are those of the server's own code, in virtual time. No server is needed.
    """
    import msgspec  # not at the top: start-up time
    from rich.console import Console
    from rich.progress import Progress

    from .core.policy.policy import read_policy
    from .sim import scenario
    from .sim.picture import picture
    from .sim.rehearse import rehearse as run_all
    from .sim.trace import read_trace

    chosen = [
        scenario.SCENARIOS[name] for name in dict.fromkeys(scenarios or ("good", "at-limit", "bad-build", "bad-board"))
    ]
    checked = read_policy(policy)
    if (trace is None) == (boards is None):
        raise click.UsageError("give a fleet: either --fleet TRACE or --boards BOARD=DEVICES,…")
    if svg is not None and not svg.parent.is_dir():  # said before minutes of computing, not after
        raise click.BadParameter(f"{svg.parent} is not a folder", param_hint="--svg")
    fleet = read_trace(trace) if trace is not None else _made_up(boards or "", sites, seed)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rehearsing", total=len(chosen) * runs)
        found, each = run_all(fleet, checked, chosen, runs=runs, seed=seed, on_run=lambda: progress.advance(task))
    if svg is not None:
        _write(svg, picture(found, each).encode())
    show(msgspec.to_builtins(found), {"as_json": as_json}, lambda _value: _tables(found))


@click.group()
def trace() -> None:
    """The shape of a fleet in a file, to rehearse on."""


@trace.command(
    epilog=examples(
        "edgewright fleet trace export digits --out trace.json",
        "edgewright fleet trace export digits --out trace.json --named --bundle-bytes raspberry-pi-5=3200000",
    )
)
@click.argument("model")
@click.option("--out", type=PATH, required=True, help="File to write.")
@click.option("--named", is_flag=True, help="Keep names of devices and sites, and labels; else they are numbered.")
@click.option("--bundle-bytes", multiple=True, metavar="BOARD=BYTES", help="Size of a bundle; default: 4 MB.")
@click.option(
    "--rollouts", "most", type=click.IntRange(0, 100), default=5, show_default=True, help="Newest to learn from."
)
@client_options
def export(model: str, out: Path, named: bool, bundle_bytes: tuple[str, ...], most: int, **options: Any) -> None:
    """Write the trace of a running fleet: boards, sites, versions, and how long updates took."""
    from .client import segment
    from .faults import FleetError
    from .sim.export import trace_of
    from .sim.trace import parse_trace, trace_to_json

    sizes = _numbers(bundle_bytes, "--bundle-bytes")
    client = connect_from(options)
    devices: list[dict[str, Any]] = []
    after: str | None = ""
    now_s = 0.0
    while after is not None:
        page = client.get("/v1/devices", after=after)
        devices += page["devices"]
        after, now_s = page["after"], page["now_s"]
    if not devices:
        raise FleetError("the fleet has no devices; `edgewright fleet device token` makes a token that enrols one")
    newest = [one["id"] for one in client.get("/v1/rollouts")["rollouts"] if one["model"] == model][:most]
    views = [client.get(f"/v1/rollouts/{segment(one)}") for one in newest]
    content = trace_to_json(trace_of(model, devices, views, now_s=now_s, bundle_bytes=sizes, named=named))
    parse_trace(content, where=str(out))
    _write(out, content)
    told = {"devices": len(devices), "rollouts": len(views), "out": str(out)}
    show(told, options, lambda _value: f"{len(devices)} devices, {len(views)} rollouts of {model}: {out}")


def _made_up(boards: str, sites: int, seed: int) -> Any:
    from .sim.trace import MAX_BOARDS, MAX_DEVICES, made_up

    counts = _numbers(boards.split(","), "--boards")
    if not 1 <= sum(counts.values()) <= MAX_DEVICES or len(counts) > MAX_BOARDS:
        raise click.BadParameter(
            f"expected 1 to {MAX_DEVICES} devices of at most {MAX_BOARDS} boards", param_hint="--boards"
        )
    return made_up(counts, sites=sites, seed=seed)


def _numbers(given: Any, option: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in given:
        name, _, number = one.partition("=")
        if not name or not number.isdecimal() or len(number) > 15:
            raise click.BadParameter(f"{one!r}; expected BOARD=NUMBER", param_hint=option)
        found[name] = int(number)
    return found


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    from .faults import FleetError

    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise FleetError(f"{path}: cannot write: {error.strerror or error}") from error


def _tables(found: Any) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape

    boards = ", ".join(f"{count:,} {escape(board)}" for board, count in found.boards.items())
    head = f"{found.model} on {found.devices:,} devices ({boards})" + (f", {found.sites} sites" if found.sites else "")
    found_by = "[bold]smallest fault that is found with a chance of 80 % by the end of each wave[/]"
    return Group(f"[bold]{head}[/], {found.runs} runs each", "", _outcomes(found), "", found_by, _waves(found))


def _outcomes(found: Any) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")  # 80 columns hold it
    for column in ("scenario", "stopped", "95 %", "paused", "at risk", "90 %", "most", "failed", "hours", "sent", "by"):
        is_text = column in {"scenario", "by"}
        table.add_column(
            column,
            justify="left" if is_text else "right",
            no_wrap=column != "by",
            overflow="fold",
            min_width=7 if column == "by" else None,
        )
    for one in found.outcomes:
        colour = "red" if bool(one.stopped.runs) == one.is_good else "green"
        risk = one.devices_at_risk
        table.add_row(
            one.scenario,
            f"[{colour}]{one.stopped.percentage:.0f} %[/]",
            f"{one.stopped.low:.0f}-{one.stopped.high:.0f}",
            f"{one.paused.percentage:.0f} %",
            f"{risk.median:,.0f}",
            f"{risk.p90:,.0f}",
            f"{risk.largest:,.0f}",
            f"{one.devices_failed.median:,.0f}",
            f"{one.hours.median:.1f}",
            _bytes(one.bytes_sent.median),
            ", ".join(one.stopped_by) or "–",
        )
    return table


def _waves(found: Any) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("wave", "devices", "failing", "less accurate", "slower"):
        table.add_column(column, justify="right")
    for number, one in enumerate(found.waves, start=1):
        table.add_row(
            str(number) if number < len(found.waves) else f"{number} (end)",
            f"{one.devices:,}",
            "–" if one.failure_percentage is None else f"{one.failure_percentage:.3g} %",
            "–" if one.accuracy_points is None else f"{one.accuracy_points:g} points",
            "–" if one.slower_percentage is None else f"{one.slower_percentage:g} %",
        )
    return table


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"
