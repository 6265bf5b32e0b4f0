"""A variant on one target: how fast it is there, how good by the target's own arithmetic, and its self-test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgewright.bundle.golden import Golden
from edgewright.bundle.manifest import Interval, Latency
from edgewright.targets.board import Board
from edgewright.targets.cost import RATIO_FACTOR, LatencyEstimate, estimate_call

from . import measure
from .build import Build
from .choose import Candidate
from .client_golden import CANDIDATES, client_golden
from .data import Arrays
from .graph import fixed_batch
from .lower import onnxruntime as engine
from .lower.ethos_u.report import NpuReport
from .lower.golden import FAITHFUL_SNR_DB, golden_samples, largest_difference, make_golden, passes
from .lower.native.library import NativeModel
from .lower.onnxruntime import Arithmetic
from .lower.workload import workload
from .metrics import Comparison, Estimate, compare, snr_db
from .quantize.offer import arithmetic_of
from .variants import FLOAT, NATIVE, NATIVE_FLOAT, Variant, evaluate

TITLES = {
    engine.NAME: "ONNX Runtime",
    NATIVE: "native code",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
    "tvm": "TVM",
    "ethos-u-vela": "Ethos-U",
}


VELA_FACTOR = 1.5
"""By which Vela's estimate may be off. Arm states no error; it models no contention for the bus and no driver."""


@dataclass(frozen=True)
class Trial:
    """A variant with everything known about it on one target."""

    variant: Variant
    latency: Latency
    time_ratio: Estimate
    tune: Comparison
    test: Comparison
    golden: Golden
    faithful: bool

    def as_candidate(self) -> Candidate:
        """The figures that decide."""
        return Candidate(
            name=self.variant.name,
            latency_ms=self.latency.p50_ms,
            time_ratio=self.time_ratio,
            measured=self.latency.kind == "measured",
            tune=self.tune,
            test=self.test,
            faithful=self.faithful,
        )


def is_here(board: Board, host: Board) -> bool:
    """Whether measuring on this machine is measuring on the target."""
    return board.digest() == host.digest() or (
        (board.arch, board.cpu.model, board.cpu.cores, set(board.cpu.isa))
        == (host.arch, host.cpu.model, host.cpu.cores, set(host.cpu.isa))
    )


def try_variant(variant: Variant, variants: Sequence[Variant], board: Board, build: Build) -> Trial:
    """Everything about a variant on a target; `variants` are those that take turns while latency is measured."""
    rounds = None
    if is_here(board, build.host):
        found = build.timings.of(variants, board, one_call(build), build.stages)
        baseline = float_baseline(variants) or variant
        rounds = found[variant.name], found[baseline.name]
    return _trial(variant, rounds, board, build)


def float_baseline(variants: Sequence[Variant]) -> Variant | None:
    """The float model that others are compared with: in ONNX Runtime where the target has that, else as code.

    Where it has neither, that of the first engine with CPU kernels. A model that came quantized stands for float.
    """
    by_name = {variant.name: variant for variant in variants}
    others = (variant for variant in variants if variant.plan_name == FLOAT and variant.npu is None)
    return by_name.get(FLOAT) or by_name.get(NATIVE_FLOAT) or next(others, None)


def try_beside_float(variant: Variant, floating: Variant, board: Board, build: Build) -> Trial:
    """The same for a variant that came up after the others were timed; `floating` is timed again beside it."""
    rounds = None
    if is_here(board, build.host):
        rounds = build.timings.beside_float(variant, floating, board, one_call(build), build.stages)
    return _trial(variant, rounds, board, build)


def one_call(build: Build) -> Arrays:
    """What a device sends at once."""
    return golden_samples(build.data.tune, fixed_batch(build.graph) or 1).inputs


Rounds = tuple[tuple[int, ...], tuple[int, ...]]
"""Of a variant, and of the float model in the same rounds; nanoseconds."""


def _trial(variant: Variant, rounds: Rounds | None, board: Board, build: Build) -> Trial:
    here = is_here(board, build.host)
    latency, time_ratio = _estimated(variant, board, build) if rounds is None else _measured(variant, rounds, build)
    golden, faithful = _golden(variant, board, build, here=here)
    return Trial(
        variant=variant,
        latency=latency,
        time_ratio=time_ratio,
        tune=score(variant, board, "tune", build),
        test=score(variant, board, "test", build),
        golden=golden,
        faithful=faithful,
    )


def score(variant: Variant, board: Board, part: Literal["tune", "test"], build: Build) -> Comparison:
    """A variant beside the float model, by the board's arithmetic; SNR is that of the logits."""
    samples = build.data.tune if part == "tune" else build.data.test
    floating, outputs = build.variants[FLOAT], build.evaluator
    arithmetic = scored_by(variant, board, build)
    return compare(
        build.metric,
        outputs.first(variant, arithmetic, part),
        outputs.first(floating, Arithmetic.ENGINE, part),
        samples.labels,
        (outputs.logits(variant, arithmetic, part), outputs.logits(floating, Arithmetic.ENGINE, part)),
    )


def scored_by(variant: Variant, board: Board, build: Build) -> Arithmetic:
    """The engine itself where it computes as the board does; float models are the same everywhere."""
    here = is_here(board, build.host) or variant.sums is None  # floats come out the same everywhere, but for rounding
    return Arithmetic.ENGINE if here else arithmetic_of(board, variant.sums)


def _measured(variant: Variant, rounds: Rounds, build: Build) -> tuple[Latency, Estimate]:
    own, floating = rounds
    threads = variant.model.threads if isinstance(variant.model, NativeModel) else build.threads
    method = (
        f"{engine_title(variant)}, batch {fixed_batch(build.graph) or 1}, {threads} thread(s), no spinning, "
        f"median of {len(own)} rounds in turn with the other candidates; interval of the order statistics"
    )
    return _as_latency(measure.summarise(own), "measured", method), measure.ratio(own, floating)


def engine_title(variant: Variant) -> str:
    """The engine as people know it."""
    return TITLES[variant.engine]


def _estimated(variant: Variant, board: Board, build: Build) -> tuple[Latency, Estimate]:
    guess = _estimate(variant, board, build) if variant.npu is None else npu_estimate(variant.npu)
    float_runs = any(support.accelerator is None and "float32" in support.precisions for support in board.engines)
    base = _estimate(build.variants[FLOAT], board, build) if float_runs else guess
    found = Estimate(guess.p50_ms, guess.low_ms, guess.high_ms)
    value = guess.p50_ms / base.p50_ms
    return _as_latency(found, "estimated", guess.method), Estimate(value, value / RATIO_FACTOR, value * RATIO_FACTOR)


def npu_estimate(npu: NpuReport) -> LatencyEstimate:
    """What the NPU's compiler says, and for operators that it leaves on the CPU what they cost there and on the way."""
    on_cpu_ms = sum(operator.cost_ms or 0.0 for operator in npu.left_on_cpu)
    p50_ms = npu.inference_ms + on_cpu_ms
    return LatencyEstimate(
        p50_ms=p50_ms,
        low_ms=p50_ms / VELA_FACTOR,
        high_ms=p50_ms * VELA_FACTOR,
        method=(
            f"Vela {npu.vela_version} for {npu.accelerator_config}, {npu.system_config}, {npu.memory_mode}: "
            f"{npu.cycles} cycles; {len(npu.left_on_cpu)} operators on the CPU add {on_cpu_ms:.3g} ms"
        ),
    )


def _estimate(variant: Variant, board: Board, build: Build) -> LatencyEstimate:
    parts = workload(variant.graph, call_shapes(build))
    if variant.precision not in parts:  # half precision stands in the types of the graph, not in its operators
        parts = {variant.precision: parts["float32"]}
    return estimate_call(board, parts, build.threads)


def call_shapes(build: Build) -> dict[str, tuple[int, ...]]:
    """What one call takes: a sample of the data, or the batch that the model has fixed."""
    batch = fixed_batch(build.graph) or 1
    return {name: (batch, *array.shape[1:]) for name, array in build.data.tune.inputs.items()}


def _as_latency(found: Estimate, kind: str, method: str) -> Latency:
    return Latency(
        p50_ms=round(found.value, 6),
        interval=Interval(low=round(found.low, 6), high=round(found.high, 6)),
        kind="measured" if kind == "measured" else "estimated",
        method=method,
    )


def shipped_golden(trial: Trial, board: Board, build: Build) -> Golden:
    """The self-test as it ships: through the steps, where there are any."""
    if not build.client.processed:
        return trial.golden
    variant, batch = trial.variant, fixed_batch(build.graph)
    samples = build.data.tune.take(np.arange(min(CANDIDATES, len(build.data.tune))))
    exact = evaluate((variant.source or variant).model, samples, arithmetic_of(board, variant.sums), 1)
    return client_golden(build.client, trial.golden, exact, batch)


def _golden(variant: Variant, board: Board, build: Build, *, here: bool) -> tuple[Golden, bool]:
    """Expected outputs by the target's arithmetic; where this machine computes the same, its engine must pass them."""
    samples = golden_samples(build.data.tune, fixed_batch(build.graph))
    arithmetic = arithmetic_of(board, variant.sums)
    written = variant.source or variant  # code is judged by the ONNX model that it was made of
    expected = evaluate(written.model, samples, arithmetic, 1)
    if variant.source is None and not here and arithmetic_of(build.host, variant.sums) is not arithmetic:
        return make_golden(samples.inputs, expected, variant.precision, 0.0), True
    found = build.evaluator.outputs(variant, Arithmetic.ENGINE, "tune")
    reference = build.evaluator.outputs(written, arithmetic, "tune")
    observed = largest_difference(found, reference)
    if variant.npu is not None:  # it rounds as TFLite's reference kernels do, and not as those that are fast here
        on_npu = evaluate(variant.model, samples, Arithmetic.EXACT, 1)
        observed = max(observed, largest_difference(on_npu, expected))
    golden = make_golden(samples.inputs, expected, variant.precision, observed)
    agreement_db = min(snr_db(found[name], reference[name]) for name in reference)
    own = evaluate(variant.model, samples, Arithmetic.ENGINE, build.threads)
    return golden, agreement_db >= FAITHFUL_SNR_DB and passes(golden, own)
