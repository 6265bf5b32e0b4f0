"""`edgewright fleet stop`, `lift` and `floor`: what stands above all rollouts."""

from __future__ import annotations

from typing import Any

import click

from .client_options import client_options, connect_from, examples, show


@click.command(epilog=examples('edgewright fleet stop --reason "cameras reboot"'))
@click.option("--reason", required=True, help="For the audit log, and for whoever wants to go on.")
@client_options
def stop(reason: str, **options: Any) -> None:
    """Stop the whole fleet: pause every rollout and take back every order that no device has heard."""
    show(connect_from(options).post("/v1/stop", {"reason": reason}), options, _stopped)


@click.command(epilog=examples("edgewright fleet lift"))
@client_options
def lift(**options: Any) -> None:
    """End the emergency stop. Rollouts stay paused until you resume each."""
    show(connect_from(options).post("/v1/lift", {}), options, _stopped)


@click.group()
def floor() -> None:
    """The lowest security epoch that devices are ordered to, model by model."""


@floor.command("set", epilog=examples("edgewright fleet floor set digits 3"))
@click.argument("model")
@click.argument("security_epoch", metavar="NUMBER", type=click.IntRange(0, 2**53))
@client_options
def floor_set(model: str, security_epoch: int, **options: Any) -> None:
    """Raise a model's floor; it is never lowered. No device is ordered below it, on no way."""
    from .client import segment  # not at the top: start-up time

    body = {"security_epoch": security_epoch}
    show(connect_from(options).post(f"/v1/floors/{segment(model)}", body), options, _floor)


@floor.command("show", epilog=examples("edgewright fleet floor show digits"))
@click.argument("model")
@client_options
def floor_show(model: str, **options: Any) -> None:
    """Show a model's floor."""
    from .client import segment  # not at the top: start-up time

    show(connect_from(options).get(f"/v1/floors/{segment(model)}"), options, _floor)


def _stopped(found: dict[str, Any]) -> str:
    if found["stop"] is None:
        return "the fleet is not stopped; `edgewright fleet rollout resume ROLLOUT` lets a paused rollout go on"
    paused = ", ".join(found["rollouts"]) or "no rollout was running"
    return f"stopped: {found['stop']['reason']} (paused: {paused}); `edgewright fleet lift` ends it"


def _floor(found: dict[str, Any]) -> str:
    return f"{found['model']}: no order below security epoch {found['security_epoch']}"
