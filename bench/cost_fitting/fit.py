"""The fit behind bench/cost.py: constants of the roofline with the least robust log error, and held-out errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bench.cost_fitting.anchors import ELEMENT_BYTES, KINDS, Anchor, Measurement, Network, Origin, describe
from bench.cost_fitting.workloads import WINOGRAD
from edgewright.targets.board import CPU, LatencyModel, MacRates, Precision

FOLDS = 8

PRIORS: dict[Origin, dict[str, float]] = {
    "ncnn": {
        "conv": 4.0, "depthwise": 1.5, "matmul": 2.0, WINOGRAD: 8.0,
        "activation_rate": 6e9, "weight_rate": 4e9,
    },
    "onnxruntime": {
        "conv": 14.0, "depthwise": 4.0, "matmul": 8.0, WINOGRAD: 14.0,
        "activation_rate": 2e10, "weight_rate": 1e10, "overhead_us": 2.0,
    },
    "vela": {
        "conv": 60.0, "depthwise": 15.0, "matmul": 8.0, WINOGRAD: 60.0,
        "activation_rate": 4e9, "weight_rate": 7e8, "overhead_us": 0.5,
    },
    "mlperf_tiny": {
        "conv": 1.5, "depthwise": 0.7, "matmul": 1.0, WINOGRAD: 1.5,
        "activation_rate": 4e8, "weight_rate": 4e8, "overhead_us": 10.0,
    },
}  # fmt: skip
PRIORS["vela-here"] = PRIORS["vela"]
FITTED_RATES = (*KINDS, WINOGRAD)
"""The last one is fitted so that it does not spoil `conv`, and is not shipped: ONNX Runtime has no Winograd kernels."""

INT8_GAIN = 1.3
"""Prior of int8 rate / float32 rate: few networks were timed in int8, so the gain is fitted, not the rate."""

PRIOR_WEIGHT = 0.15
"""In units of log error: keeps a constant near its prior where no network of the anchor tells it."""

X86_PARALLEL_FRACTION = 0.78
"""That of the Xeon with 1 to 8 threads, for the x86 anchors that were timed with one."""

OVERHEAD_CYCLES = 5_400
"""Per operator, in ONNX Runtime (about what SKYLAKE_MS tells: 2 us at 2.7 GHz).

The ncnn anchors are large networks in another engine: fitted freely on them, the overhead took up other errors, and
small networks on this machine came out 7 to 25 times too slow.
"""
OVERHEAD_PRIOR_WEIGHT = {
    "ncnn": 20.0, "onnxruntime": PRIOR_WEIGHT, "vela": PRIOR_WEIGHT, "vela-here": PRIOR_WEIGHT,
    "mlperf_tiny": PRIOR_WEIGHT,
}  # fmt: skip


def unpack(vector: NDArray[np.float64], precisions: Sequence[Precision]) -> dict[str, Any]:
    """Constants from the vector of their logarithms; the last entry is the logit of the parallel fraction."""
    width = len(FITTED_RATES)
    rates = {p: np.exp(vector[width * at : width * at + width]) for at, p in enumerate(precisions)}
    if len(precisions) > 1:
        rates["int8"] = rates["int8"] * rates["float32"]
    activation_rate, weight_rate, overhead_us = np.exp(vector[-4:-1])
    return {
        "rates": rates, "activation_rate": activation_rate, "weight_rate": weight_rate, "overhead_us": overhead_us,
        "parallel": 1 / (1 + np.exp(-vector[-1])),
    }  # fmt: skip


def predict_ms(constants: dict[str, Any], network: Network, measured: Measurement, clock_hz: int) -> float:
    """`estimate_latency`, vectorised; `constants_of` lets bench/cost.py hold the two together."""
    width = ELEMENT_BYTES[measured.precision]
    rates = constants["rates"][measured.precision][network.kind]
    compute_s = network.macs / (rates * clock_hz)
    transfer_s = width * (
        network.activations / constants["activation_rate"] + network.weights / constants["weight_rate"]
    )
    speed_up = 1 / ((1 - constants["parallel"]) + constants["parallel"] / measured.threads)
    per_operator_s = constants["overhead_us"] / 1e6 + np.maximum(compute_s, transfer_s) / speed_up
    return float((per_operator_s * network.count).sum()) * 1_000


def constants_of(model: LatencyModel) -> dict[str, Any]:
    """The constants of a board file as `predict_ms` wants them."""
    rates = model.macs_per_cycle
    return {
        "rates": {model.precision: np.array([rates.conv, rates.depthwise, rates.matmul, rates.conv])},
        "activation_rate": model.activation_bytes_per_s,
        "weight_rate": model.weight_bytes_per_s,
        "overhead_us": model.operator_overhead_us,
        "parallel": model.parallel_fraction,
    }


def fit(anchor: Anchor, measurements: Sequence[Measurement], networks: Mapping[str, Network]) -> dict[str, Any]:
    """Constants with the least robust log error, pulled gently to the prior."""
    known = PRIORS[anchor.origin]
    overhead_us = OVERHEAD_CYCLES / anchor.clock_hz * 1e6 if anchor.origin == "ncnn" else known["overhead_us"]
    float_prior = [known[kind] for kind in FITTED_RATES]
    prior = np.log(float_prior + [INT8_GAIN] * len(FITTED_RATES) * (len(anchor.precisions) - 1))
    shared = np.log([known["activation_rate"], known["weight_rate"], overhead_us])
    start = np.concatenate([prior, shared, [2.0]])
    weights = np.full(start.size, PRIOR_WEIGHT)
    weights[-2] = OVERHEAD_PRIOR_WEIGHT[anchor.origin]

    def residuals(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        constants = unpack(vector, anchor.precisions)
        errors = [
            np.log(predict_ms(constants, networks[m.network], m, anchor.clock_hz) / m.latency_ms) for m in measurements
        ]
        return np.concatenate([errors, weights * (vector - start)])

    solution = least_squares(residuals, start, loss="soft_l1", f_scale=0.2, bounds=(start - 4, start + 4))
    return unpack(solution.x, anchor.precisions)


def held_out_errors(
    anchor: Anchor, measurements: Sequence[Measurement], networks: Mapping[str, Network]
) -> list[tuple[Measurement, float]]:
    """Log of predicted / measured, each from constants that never saw the network (nor its int8 twin)."""
    groups = sorted({m.network.removesuffix("_int8") for m in measurements})
    fold_of = {group: at % FOLDS for at, group in enumerate(groups)}
    errors = []
    for fold in range(FOLDS):
        inside = [m for m in measurements if fold_of[m.network.removesuffix("_int8")] != fold]
        outside = [m for m in measurements if fold_of[m.network.removesuffix("_int8")] == fold]
        constants = fit(anchor, inside, networks)
        for m in outside:
            predicted = predict_ms(constants, networks[m.network], m, anchor.clock_hz)
            errors.append((m, float(np.log(predicted / m.latency_ms))))
    return errors


def band(errors: Iterable[float]) -> tuple[float, float]:
    """(low_factor, high_factor): 95 % of the measurements lie above estimate / low, 95 % below estimate * high."""
    logs = np.array(list(errors))
    return float(np.exp(max(np.quantile(logs, 0.95), 0.0))), float(np.exp(max(-np.quantile(logs, 0.05), 0.0)))


def fitted_models(
    anchor: Anchor, constants: dict[str, Any], errors: Sequence[tuple[Measurement, float]]
) -> list[LatencyModel]:
    """What goes into the board file."""
    models = []
    for precision in anchor.precisions:
        of_precision = [error for m, error in errors if m.precision == precision]
        low, high = (max(factor, anchor.least_band) for factor in band(of_precision))
        median = float(np.median(np.abs(np.expm1(of_precision))))
        conv, depthwise, matmul = (float(f"{rate:.3g}") for rate in constants["rates"][precision][: len(KINDS)])
        models.append(
            LatencyModel(
                precision=precision,
                processor=anchor.processor,
                macs_per_cycle=MacRates(conv=conv, depthwise=depthwise, matmul=matmul),
                activation_bytes_per_s=round_to(constants["activation_rate"], 3),
                weight_bytes_per_s=round_to(constants["weight_rate"], 3),
                operator_overhead_us=float(f"{constants['overhead_us']:.3g}"),
                parallel_fraction=parallel_fraction(anchor, constants),
                low_factor=float(f"{low:.3g}"),
                high_factor=float(f"{high:.3g}"),
                source=f"bench/cost.py: {len(of_precision)} {describe(anchor)}; median held-out error {median:.0%}",
            )
        )
    return models


def parallel_fraction(anchor: Anchor, constants: dict[str, Any]) -> float:
    """As fitted; of one timed thread: accelerators and microcontrollers have none, an x86 CPU has another one's."""
    if len(anchor.threads) > 1:
        return float(f"{constants['parallel']:.3f}")
    return X86_PARALLEL_FRACTION if anchor.processor == CPU and anchor.origin != "mlperf_tiny" else 0.0


def round_to(value: float, digits: int) -> int:
    """The value with that many significant digits."""
    return int(float(f"{value:.{digits}g}"))
