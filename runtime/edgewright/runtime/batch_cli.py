"""`edgewright run`: a bundle over a file of inputs. Imported for --help: the work is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path

import click

EPILOG = """
\b
Examples:
  edgewright run out/host.bundle --input samples.npz --output scores.npz
  edgewright run out/raspberry-pi-5.bundle --emulated --input samples.npz --output scores.npz --json
"""


@click.command("run", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--input",
    "input_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="npz file with one array for each input of the model, or one array named x.",
)
@click.option(
    "--output",
    "output_path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="npz file to write: one array for each output. It appears complete or not at all.",
)
@click.option("--batch-size", type=click.IntRange(1, 65536), default=32, show_default=True, help="Samples of one run.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=None, help="Threads of one run.  [default: the bundle's]"
)
@click.option("--emulated", is_flag=True, help="Exact arithmetic: for a bundle whose target is another machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run_command(
    bundle: Path,
    input_path: Path,
    output_path: Path,
    batch_size: int,
    threads: int | None,
    emulated: bool,
    as_json: bool,
) -> None:
    """Run a bundle over a file of inputs on this machine.

    BUNDLE is an archive or an unpacked directory. Its golden self-test runs first: what this machine would compute
    wrongly is refused.
    """
    # Imported here because numpy and the engine take half a second, which `--help` should not wait for.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from .batch import run_batches

    console = Console(stderr=True)
    columns = (TextColumn("running"), BarColumn(), MofNCompleteColumn(), TextColumn("samples"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("running", total=None)
        summary = run_batches(
            bundle,
            input_path,
            output_path,
            batch_size=batch_size,
            threads=threads,
            emulated=emulated,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        click.echo(json.dumps(summary.as_json(), indent=2))
    else:
        click.echo(summary.as_text())
