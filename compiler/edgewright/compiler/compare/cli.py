"""`edgewright diff`. Only click is imported here: `--help` must not wait for the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..interruption import cleaned_up

if TYPE_CHECKING:
    from .report import Comparison

EPILOG = """\b
Examples:
  edgewright diff float.onnx int8.onnx --data eval.npz
  edgewright diff model.onnx build/host.bundle --data eval.npz --picture layers.svg
  edgewright diff old.bundle new.bundle --data eval.npz --samples 32 --json | jq '.layers[0]'"""


@click.command("diff", epilog=EPILOG)
@click.argument("left", metavar="A", type=click.Path(path_type=Path))
@click.argument("right", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="One array per input (or `x`), samples first.",
)
@click.option(
    "--samples", default=64, show_default=True, type=click.IntRange(1, 1_000_000), help="Use the first N of the data."
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Draw all layers in graph order.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in graph order, instead of the table.")
def diff_command(left: Path, right: Path, data: Path, samples: int, picture: Path | None, *, as_json: bool) -> None:
    """Compare two models layer by layer, worst first: signal-to-noise ratio of B with A as the truth.

    A and B are ONNX or TFLite files (float or quantized, from any tool) or bundles, made from the same model. Sums of
    integers are computed exactly; a last line gives the outputs as ONNX Runtime computes them on this machine.
    """
    from edgewright.bundle.files import write_atomically  # start-up time

    from .picture import draw
    from .report import encode

    with cleaned_up():
        comparison = _compare(left, right, data, samples)
    if picture is not None:
        write_atomically(picture, draw(comparison).encode())
    if as_json:
        click.echo(encode(comparison), nl=False)
        return
    from rich.console import Console

    from .terminal import print_comparison

    print_comparison(comparison, Console())


def _compare(left: Path, right: Path, data: Path, samples: int) -> Comparison:
    from contextlib import ExitStack  # start-up time
    from tempfile import TemporaryDirectory

    from ..data import Samples, as_model_inputs, load_arrays, undivided
    from ..report.progress import TerminalStages
    from ..scratch import Scratch
    from .run import compare_models
    from .source import opened, shared_inputs

    stages = TerminalStages()
    with ExitStack() as held:
        scratch = held.enter_context(Scratch(Path(held.enter_context(TemporaryDirectory(prefix="edgewright-diff-")))))
        with stages.stage("reading"):
            one, other = held.enter_context(opened(left)), held.enter_context(opened(right))
            ports = shared_inputs(one, other)
            arrays, _ = load_arrays(data)
            found = undivided(data, arrays, tuple(port.name for port in ports))
            first = Samples({name: array[:samples] for name, array in found.inputs.items()}, None)
            inputs = as_model_inputs(first, ports).inputs
        return compare_models(one, other, inputs, stages, scratch)
