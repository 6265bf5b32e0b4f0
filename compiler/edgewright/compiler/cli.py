"""`edgewright compile`. Only click is imported here: `--help` must not wait for the compiler."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .interruption import cleaned_up

if TYPE_CHECKING:
    from .cache import Cache
    from .report.schema import Report
    from .request import Request

EPILOG = """\b
Examples:
  edgewright compile model.onnx --target host --data eval.npz --out build
  edgewright compile model.onnx --target raspberry-pi-5 --target host --data eval.npz --max-drop 0.5% --out build
  edgewright compile net.onnx --target host --data pictures.npz --scale 1/255 --out build
  edgewright compile net.onnx --target host --data pictures.npz --processing steps.toml --out build
  edgewright compile --model nets.cnn:build --weights cnn.safetensors --target host --data eval.npz --out build
  edgewright compile model.onnx --target host --data eval.npz --measurements build/measurements.json --out again
  edgewright compile model.onnx --target raspberry-pi-5 --engine native --data eval.npz --out build
  edgewright compile model.onnx --target host --data eval.npz --emit c --out build

\b
Exit codes:
  0  every target shipped
  2  the command, the model file or the data is wrong
  3  the budget was missed: the float model shipped instead, the report says why
  4  an operator or opset is not supported
  5  the engine or toolchain of a target is missing
With several targets, the gravest one counts; what succeeded is written."""


class Numbers(click.ParamType[tuple[float, ...]]):
    """`0.5`, `1/255`, or one per channel: `123.7,116.3,103.5`."""

    name = "numbers"

    def convert(
        self, value: str | tuple[float, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(_number(part) for part in value.split(","))
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r}: expected a number, a fraction such as 1/255, or several with commas", param, ctx)


class Seconds(click.FloatRange):
    """A length of time; `nan` is within every range that click knows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    number = float(above) / float(below) if slash else float(above)
    if not -1e12 < number < 1e12:
        raise ValueError(text)
    return number


@click.command("compile", epilog=EPILOG)
@click.argument("model", required=False, metavar="MODEL")
@click.option("--model", "model_option", metavar="PKG.MOD:BUILD", help="A PyTorch model: a function that returns it.")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights, as safetensors.")
@click.option("--target", "targets", multiple=True, required=True, metavar="T", help="Board name or file; repeat it.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="One array per input (or `x`), and optionally `y` and `split` (calibrate, tune, test).",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Results.")
@click.option(
    "--metric",
    metavar="M",
    help="top1, auc, mse, snr, agreement, distortion, or module:function(outputs, y). Default: what fits the data.",
)
@click.option(
    "--max-drop",
    metavar="D",
    help="What int8 may lose: 1% (points for top1, auc, agreement; relative for errors), or 0.5dB for snr. "
    "Default 1% (0.5dB for snr, 5% for distortion).",
)
@click.option("--mean", type=Numbers(), metavar="N[,N...]", help="Fold (x - mean) * scale in; the input becomes bytes.")
@click.option("--scale", type=Numbers(), metavar="N[,N...]", help="See --mean; 1/255 works.")
@click.option(
    "--processing",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Steps before and after the model, [[before]] and [[after]]; the data is what clients send.",
)
@click.option(
    "--state",
    multiple=True,
    metavar="IN=OUT",
    help="Implicit state: the device feeds output OUT to input IN in the next step of a sequence; repeat it.",
)
@click.option("--name", metavar="NAME", help="Name of the model on devices. Default: the file's name.")
@click.option("--release-version", default="1", show_default=True, metavar="V", help="Version of this release.")
@click.option(
    "--security-epoch",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**31 - 1),
    help="Floor below which devices do not roll back.",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 256), help="Threads on the device.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Quantize by this plan (as `edgewright quantize` writes it) instead of proposing one.",
)
@click.option(
    "--measurements",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Replay recorded latencies instead of measuring: gives the same bundles again.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(["onnxruntime", "native", "litert", "openvino", "tvm", "ethos-u-vela"]),
    help="Engine that may ship; repeat it. Default: onnxruntime, native, and an NPU of the target; the fastest wins.",
)
@click.option(
    "--tune",
    "tune_s",
    default=30.0,
    show_default=True,
    type=Seconds(0, 3600),
    metavar="SECONDS",
    help="Longest time to tune the native kernels of a net, where the target is this machine; 0 takes best guesses.",
)
@click.option("--emit", type=click.Choice(["c"]), help="Write native code as C source too, with an example to build.")
@click.option("--no-cache", is_flag=True, help="Measure again, though nothing has changed since an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of the matrix.")
def compile_command(
    model: str | None,
    model_option: str | None,
    weights: Path | None,
    targets: tuple[str, ...],
    data: Path,
    out: Path,
    metric: str | None,
    max_drop: str | None,
    mean: tuple[float, ...] | None,
    scale: tuple[float, ...] | None,
    processing: Path | None,
    state: tuple[str, ...],
    name: str | None,
    release_version: str,
    security_epoch: int,
    threads: int,
    plan: Path | None,
    measurements: Path | None,
    engines: tuple[str, ...],
    tune_s: float,
    emit: str | None,
    *,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Compile a trained model into one bundle per target board.

    MODEL is an ONNX or TFLite file. An int8 version ships where it is faster than the float model and loses no more
    than --max-drop; otherwise the float model ships, and the report says why.

    Engines: onnxruntime runs the model as ONNX; native is the model as machine code and needs nothing on the device.
    On this machine both are timed and the faster one ships; for other boards, --engine native asks for it. Ethos-U
    boards get int8 for the NPU. litert, openvino and tvm are tried where --engine names them.
    """
    if (model is None) == (model_option is None):
        raise click.UsageError("give one model: an ONNX or TFLite file, or --model package.module:function")
    from .request import Request  # start-up time

    request = Request(
        model=model or model_option or "",
        weights=weights,
        targets=targets,
        data=data,
        out=out,
        metric=metric,
        max_drop=max_drop,
        name=name,
        version=release_version,
        security_epoch=security_epoch,
        threads=threads,
        mean=mean,
        scale=scale,
        processing=processing,
        state=state,
        plan=plan,
        measurements=measurements,
        engines=engines or None,
        tune_s=tune_s,
        emit_c=emit == "c",
    )
    with cleaned_up():
        report = _run(request, None if no_cache else _cache(), as_json=as_json)
    sys.exit(report.exit_code)


def _cache() -> Cache | None:
    from .cache import Cache, default_directory  # start-up time

    def note(text: str) -> None:
        click.echo(f"edgewright: {text}", err=True)

    try:
        return Cache(default_directory(os.environ, Path.home()), note)
    except RuntimeError:  # no home directory is known for this user
        note("no home directory for a cache: working without it; $XDG_CACHE_HOME can name one")
        return None


def _run(request: Request, cache: Cache | None, *, as_json: bool) -> Report:
    from rich.console import Console  # start-up time

    from .report.schema import encode
    from .report.terminal import print_report

    report, from_cache = _result(request, cache)
    if as_json:
        click.echo(encode(report), nl=False)
    else:
        console = Console()
        print_report(report, console)
        if from_cache:
            console.print("from cache: nothing has changed since that run (--no-cache measures again)", style="dim")
    for target in report.targets:
        if target.exit_code and not sys.stdout.isatty():  # on a terminal the matrix has said it
            click.echo(f"edgewright: {target.target}: {target.reason}", err=True)
    return report


def _result(request: Request, cache: Cache | None) -> tuple[Report, bool]:
    """The report, and whether it comes from the cache: the graph libraries are imported only if it does not."""
    from .results import Results, result_key  # start-up time

    key = None if cache is None else result_key(request)
    if cache is not None and key is not None:
        found = Results(cache).restore(key, request.out)
        if found is not None:
            return found, True
    from .pipeline import compile_model
    from .report.progress import TerminalStages

    report = compile_model(request, TerminalStages(), cache)
    if cache is not None and key is not None:
        Results(cache).keep(key, request, report)
    return report, False
