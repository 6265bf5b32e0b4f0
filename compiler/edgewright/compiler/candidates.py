"""Everything that could ship on some target of a run: float, the plans, half precision; from one calibration."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.targets.board import VELA, Board
from edgewright.targets.host import detect_host

from .data import Dataset
from .data_warning import DataWarning
from .engine_choice import tried_engines
from .faults import NotQuantizable, UnsupportedModel
from .graph import OTHER_FLOATS, Graph, is_quantized, nodes, place
from .lint import lint
from .lower.litert import NAME as LITERT
from .lower.onnxruntime import NAME as ONNX_RUNTIME
from .lower.onnxruntime import Arithmetic
from .plans import Planner, Plans
from .quantize.calibration.observe import collect
from .quantize.calibration.statistics import Statistics
from .quantize.offer import arithmetic_of, schemes_for, tflite_schemes_for
from .quantize.planfile import check_plan, plan_warnings, read_plan
from .quantize.scheme import Scheme
from .quantize.uncalibrated.methods import methods_for
from .report.progress import Stages
from .request import Request
from .scratch import Scratch
from .trial import is_here
from .variants import FLOAT, NATIVE, Variant, float_variant, half_variant, plan_variant

GIVEN = "plan"
"""Name of the variant that comes from the user's own plan."""
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
Offers = dict[str, tuple[str, ...]]
"""Names of variants, by target."""


@dataclass(frozen=True)
class Candidates:
    """Everything that could ship on some target."""

    variants: dict[str, Variant]
    offers: Offers
    plans: Plans
    no_int8: tuple[str, ...]
    warnings: tuple[DataWarning, ...]


def make_candidates(
    request: Request, graph: Graph, divided: Dataset, boards: tuple[Board, ...], stages: Stages, scratch: Scratch
) -> Candidates:
    """The float model, and every plan that some board can use, or the user's; calibrates once."""
    variants = {FLOAT: float_variant(graph, scratch)}
    obstacle = int8_obstacle(graph)
    if obstacle is not None:
        offers: Offers = {board.name: () for board in boards}
        return Candidates(variants, offers, Plans(divided.tune), (obstacle,), lint(divided, graph))
    with stages.stage("calibrating", len(divided.calibrate)) as advance:
        statistics = collect(graph, divided.calibrate, scratch, advance)
    with stages.stage("planning"):
        offers, plans, reasons = _plans(request, graph, statistics, divided, boards, scratch)
    with stages.stage("quantizing", len(plans.by_name)) as advance:
        for name, plan in plans.by_name.items():
            try:
                variants[name] = plan_variant(graph, plan, scratch, name)
            except NotQuantizable as reason:
                reasons.add(str(reason))
            advance(1)
    halves, too_wide = _halves(graph, statistics, boards, scratch)
    offers = {name: (*offered, *halves) for name, offered in offers.items()}
    found = lint(divided, graph, statistics)
    if GIVEN in plans.by_name:
        found = (*plan_warnings(plans.by_name[GIVEN], graph, f"--plan {request.plan}"), *found)
    return Candidates(variants | halves, offers, plans, tuple(sorted(reasons | too_wide)), found)


def _plans(
    request: Request,
    graph: Graph,
    statistics: Statistics,
    divided: Dataset,
    boards: tuple[Board, ...],
    scratch: Scratch,
) -> tuple[Offers, Plans, set[str]]:
    """The user's plan, or one for every scheme that some board can use."""
    if request.plan is not None:
        plan = read_plan(request.plan)
        check_plan(plan, graph, f"--plan {request.plan}")
        return {board.name: (GIVEN,) for board in boards}, Plans(divided.tune, {GIVEN: plan}), set()
    schemes = {board.name: schemes_for(board, graph, exact_too=_both_engines(request, board)) for board in boards}
    for_tflite = {
        scheme for board in boards if _takes_tflite(request, board) for scheme in tflite_schemes_for(board, graph)
    }
    wanted = {scheme.name: scheme for offered in (*schemes.values(), for_tflite) for scheme in offered}
    exact = arithmetic_of(detect_host(), Scheme()) is Arithmetic.EXACT
    arithmetic = Arithmetic.ENGINE if exact else Arithmetic.EXACT
    planner = Planner(graph, statistics, divided.calibrate, divided.tune, arithmetic, scratch)
    plans, reasons = planner.plan_all(wanted.values())
    return {name: tuple(scheme.name for scheme in offered) for name, offered in schemes.items()}, plans, reasons


def _takes_tflite(request: Request, board: Board) -> bool:
    """Whether a board will be tried with TFLite files."""
    return any(name in (LITERT, VELA) for name in tried_engines(board, request.engines))


def _both_engines(request: Request, board: Board) -> bool:
    """Whether a board will be tried with ONNX Runtime and with code: here, or where code is asked for."""
    engines = (ONNX_RUNTIME, NATIVE)
    if any(name not in (support.name for support in board.engines) for name in engines):
        return False
    if request.engines is None:
        return request.emit_c or is_here(board, detect_host())
    return all(name in request.engines for name in engines)


def _halves(
    graph: Graph, statistics: Statistics, boards: tuple[Board, ...], scratch: Scratch
) -> tuple[dict[str, Variant], set[str]]:
    """The model in the half precisions that some board's engine has, and why others are missing."""
    ranges = {name: (tensor.low, tensor.high) for name, tensor in statistics.tensors.items()}
    variants: dict[str, Variant] = {}
    reasons = set()
    for board in boards:
        for precision in methods_for(board, graph):
            if isinstance(precision, str) and precision not in variants:
                try:
                    variants[precision] = half_variant(graph, precision, board, ranges, scratch)
                except UnsupportedModel as reason:
                    reasons.add(str(reason))
    return variants, reasons


def int8_obstacle(graph: Graph) -> str | None:
    """Why no int8 form is tried, or None."""
    if is_quantized(graph):
        return "the model is quantized already"
    for node in nodes(graph):
        dtype = node.outputs[0].dtype
        if node.op_type in PRODUCTS and dtype in OTHER_FLOATS:
            return (
                f"{node.op_type} at {place(node)} computes in {dtype}; only float32 is quantized: export it so for int8"
            )
    return None
