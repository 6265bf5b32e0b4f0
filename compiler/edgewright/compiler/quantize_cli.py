"""`edgewright quantize`. Only click is imported here: `--help` must not wait for the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from .interruption import cleaned_up

EPILOG = """\b
Examples:
  edgewright quantize model.onnx --data eval.npz --out q.onnx
  edgewright quantize model.onnx --data eval.npz --out q.onnx --target raspberry-pi-4
  edgewright quantize model.onnx --data eval.npz --out q.onnx --plan edited.plan.toml
  edgewright quantize encoder.onnx --data eval.npz --out q.onnx --method dynamic
  edgewright quantize encoder.onnx --out q.onnx --method weights --weights int4

\b
Exit codes:
  0  written, whatever it loses: read the table
  2  the command, the model file, the data or the plan is wrong
  4  the model has no such form: which operator, why, what to do
  5  a package is missing, or --out cannot be written"""


@click.command("quantize", epilog=EPILOG)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FILE.onnx", help="Its plan goes beside it."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="As for `edgewright compile`. Static plans need it; others are measured with it.",
)
@click.option("--plan", type=click.Path(path_type=Path), metavar="FILE.toml", help="Use this plan; propose none.")
@click.option(
    "--scheme",
    type=click.Choice(["uint8", "int8", "uint16", "int16"]),
    help="Type of activations. Default: what the target computes best.",
)
@click.option(
    "--method",
    type=click.Choice(["static", "dynamic", "weights"]),
    default="static",
    show_default=True,
    help="Ranges from data; ranges of each call (MatMul); or only what is stored is small.",
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "int4"]),
    default="int8",
    show_default=True,
    help="int4 goes with --method weights.",
)
@click.option(
    "--target", default="host", show_default=True, metavar="T", help="Board name or file: how its sums add up."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def quantize_command(
    model: Path,
    out: Path,
    data: Path | None,
    plan: Path | None,
    scheme: Literal["uint8", "int8", "uint16", "int16"] | None,
    method: Literal["static", "dynamic", "weights"],
    weights: Literal["int8", "int4"],
    target: str,
    *,
    as_json: bool,
) -> None:
    """Quantize an ONNX or TFLite model: a new model (QDQ ONNX), the plan it is made by, and what it costs.

    Nothing is chosen and no bundle is made; `edgewright compile` does that.
    """
    from .quantize_request import QuantizeRequest, quantize_model  # start-up time
    from .report.progress import TerminalStages
    from .report.quantized import encode

    request = QuantizeRequest(
        model=model, out=out, data=data, plan=plan, method=method, activations=scheme, weights=weights, target=target
    )
    with cleaned_up():
        report = quantize_model(request, TerminalStages())
    if as_json:
        click.echo(encode(report), nl=False)
        return
    from rich.console import Console

    from .report.quantized_terminal import print_quantized

    print_quantized(report, out, request.plan_out, Console())
