"""`edgewright fleet experiment …`."""

from __future__ import annotations

from typing import Any

import click

from .client_options import PATH, client_options, connect_from, examples, show

METRICS = ("errors", "latency", "energy", "accuracy", "labels", "crashes", "silence")
"""Those of core/experiment.py, spelled out so that `--help` answers at once; a test compares the two."""
MOST_LOSS = 100


@click.group()
def experiment() -> None:
    """Compare two releases side by side, on devices or on requests."""


@experiment.command(
    epilog=examples(
        "edgewright fleet experiment create digits 1 2 --primary accuracy --guardrail errors",
        "edgewright fleet experiment create kws 1 2 --unit requests --share 0.1",
    )
)
@click.argument("model")
@click.argument("baseline")
@click.argument("candidate")
@click.option(
    "--unit",
    type=click.Choice(["devices", "requests"]),
    default="devices",
    show_default=True,
    help="What is drawn: devices, which keep their version, or each request anew.",
)
@click.option(
    "--primary", type=click.Choice(METRICS), default="errors", show_default=True, help="The metric that decides."
)
@click.option(
    "--guardrail", "guardrails", multiple=True, metavar="METRIC[=LOSS]", help="May get worse by LOSS at most."
)
@click.option(
    "--share",
    type=click.FloatRange(0.05, 0.95),
    default=0.5,
    show_default=True,
    help="Of the units that get the candidate.",
)
@click.option("--where", default="", metavar="QUERY", help="Which devices; as in a rollout's policy.")
@click.option(
    "--observe-hours",
    type=click.FloatRange(0.02, 8784),
    default=24,
    show_default=True,
    help="How long each device is observed.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Chance of a difference that is none.",
)
@client_options
def create(
    model: str,
    baseline: str,
    candidate: str,
    unit: str,
    primary: str,
    guardrails: tuple[str, ...],
    share: float,
    where: str,
    observe_hours: float,
    alpha: float,
    **options: Any,
) -> None:
    """Begin to compare CANDIDATE with BASELINE, two versions of MODEL."""
    from .experiment_tables import experiment as table

    plan = {
        "model": model,
        "baseline": baseline,
        "candidate": candidate,
        "unit": unit,
        "primary": primary,
        "guardrails": [_guardrail(one) for one in guardrails],
        "share": share,
        "where": where,
        "observation_s": observe_hours * 3600,
        "alpha": alpha,
    }
    show(connect_from(options).post("/v1/experiments", plan), options, table)


@experiment.command(
    epilog=examples("edgewright fleet experiment status", "edgewright fleet experiment status x-12ab34cd --json")
)
@click.argument("experiment_id", metavar="[EXPERIMENT]", required=False)
@client_options
def status(experiment_id: str | None, **options: Any) -> None:
    """Show all experiments, or what one shows now. You may look as often as you like."""
    from . import experiment_tables as tables
    from .client import segment

    client = connect_from(options)
    if experiment_id is None:
        show(client.get("/v1/experiments"), options, tables.experiments)
    else:
        show(client.get(f"/v1/experiments/{segment(experiment_id)}"), options, tables.experiment)


@experiment.command(epilog=examples("edgewright fleet experiment stop x-12ab34cd --reason 'learnt enough'"))
@click.argument("experiment_id", metavar="EXPERIMENT")
@click.option("--reason", default="", help="A note for the audit log.")
@client_options
def stop(experiment_id: str, reason: str, **options: Any) -> None:
    """End an experiment; its devices go back to the baseline."""
    from .client import segment
    from .experiment_tables import experiment as table

    show(
        connect_from(options).post(f"/v1/experiments/{segment(experiment_id)}/stop", {"reason": reason}), options, table
    )


@experiment.command(
    epilog=examples(
        "edgewright fleet experiment promote x-12ab34cd",
        "edgewright fleet experiment promote x-12ab34cd --policy policy.toml --force",
    )
)
@click.argument("experiment_id", metavar="EXPERIMENT")
@click.option("--policy", type=PATH, default=None, help="Policy of the rollout, .toml or .json.")
@click.option("--force", is_flag=True, help="Also where the experiment does not show that the candidate is better.")
@client_options
def promote(experiment_id: str, policy: Any, force: bool, **options: Any) -> None:
    """End an experiment and roll its candidate out to all devices."""
    import json

    from .client import segment
    from .core.policy.policy import Policy, policy_to_json, read_policy
    from .experiment_tables import experiment as table

    given = json.loads(policy_to_json(read_policy(policy) if policy else Policy()))
    path = f"/v1/experiments/{segment(experiment_id)}/promote"
    show(connect_from(options).post(path, {"policy": given, "force": force}), options, table)


def _guardrail(text: str) -> dict[str, Any]:
    metric, _, loss = text.partition("=")
    if metric not in METRICS:
        raise click.UsageError(f"--guardrail {text}: {metric!r} is no metric; there are {', '.join(METRICS)}")
    try:
        most = float(loss) if loss else None
    except ValueError:
        raise click.UsageError(f"--guardrail {text}: expected METRIC or METRIC=LOSS, as in latency=10") from None
    if most is not None and not 0 <= most <= MOST_LOSS:
        raise click.UsageError(f"--guardrail {text}: a loss is from 0 to {MOST_LOSS}")
    return {"metric": metric, "maxLoss": most}
