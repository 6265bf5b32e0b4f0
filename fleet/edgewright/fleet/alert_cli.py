"""`edgewright fleet alert …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .client_options import PATH, client_options, connect_from, examples, show


@click.group()
def alert() -> None:
    """Alerts on drift, errors, latency and accuracy, and the rules that raise them."""


@alert.command("list", epilog=examples("edgewright fleet alert list", "edgewright fleet alert list --open --json"))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Newest alerts to show.")
@click.option("--open", "open_only", is_flag=True, help="Only those that are up.")
@client_options
def alert_list(limit: int, open_only: bool, **options: Any) -> None:
    """Show alerts, newest first, and what became of their hooks."""
    from . import alert_tables  # not at the top: start-up time

    found = connect_from(options).get("/v1/alerts", limit=limit, open="true" if open_only else "false")
    show(found, options, alert_tables.alerts)


@alert.group()
def rule() -> None:
    """Rules: what is watched, against what, and what is done then (docs/guides/drift.md)."""


@rule.command(
    "add",
    epilog=examples(
        "edgewright fleet alert rule add inputs.toml", "edgewright fleet alert rule add labels.json --json"
    ),
)
@click.argument("path", metavar="FILE", type=PATH)
@client_options
def add(path: Path, **options: Any) -> None:
    """Add the rule in a .toml or .json file, or replace the one of its name, which then begins anew."""
    from . import alert_tables  # not at the top: start-up time

    rule = _read(path)
    made = connect_from(options).post("/v1/alert-rules", rule)
    if made["webhook_secret"] and not options["as_json"]:
        click.echo(f"webhook secret, shown once: {made['webhook_secret']}", err=True)
    show(made, options, lambda value: alert_tables.rules({"rules": [value["rule"]]}))


@rule.command("list", epilog=examples("edgewright fleet alert rule list"))
@client_options
def rule_list(**options: Any) -> None:
    """List the rules."""
    from . import alert_tables  # not at the top: start-up time

    show(connect_from(options).get("/v1/alert-rules"), options, alert_tables.rules)


@rule.command("rm", epilog=examples("edgewright fleet alert rule rm inputs"))
@click.argument("name")
@client_options
def rm(name: str, **options: Any) -> None:
    """Remove a rule: its alerts end, and hooks that wait are not called."""
    from .client import segment  # not at the top: start-up time

    connect_from(options).delete(f"/v1/alert-rules/{segment(name)}")
    click.echo(json.dumps({"removed": name}) if options["as_json"] else f"removed {name}")


def _read(path: Path) -> dict[str, Any]:
    from .core.drift.alert_rules import MAX_RULE_BYTES, RuleError, parse_table, rule_from

    if path.suffix not in {".toml", ".json"}:
        raise RuleError(f"{path}: a rule is a .toml or a .json file, got suffix {path.suffix!r}")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RULE_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: cannot read the rule: {error}") from error
    data = parse_table(text, kind="toml" if path.suffix == ".toml" else "json", where=str(path))
    rule_from(data, where=str(path))  # here, so that the error names the file
    found: dict[str, Any] = data
    return found
