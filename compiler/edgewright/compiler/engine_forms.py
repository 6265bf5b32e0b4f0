"""Forms of the variants of a build for engines beside ONNX Runtime and code of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edgewright.bundle.manifest import PassRecord, Precision
from edgewright.targets.board import VELA, Board

from .build import Build
from .engine_choice import tried_engines
from .faults import ToolchainMissing, UnsupportedModel
from .graph import Graph, is_quantized
from .logits import with_logits
from .lower import litert, openvino
from .lower.compiled import open_compiled
from .lower.engine_model import EngineModel, check_here
from .lower.ethos_u.model import ethos_u_model
from .lower.model_file import ModelFile, write_model
from .lower.onnxruntime import Arithmetic
from .lower.tvm import model as tvm
from .trial import call_shapes
from .variants import FLOAT, Variant

HALF: Final = "float16"


@dataclass(frozen=True)
class Forms:
    """What there is, and why the rest is missing."""

    variants: tuple[Variant, ...] = ()
    missing: tuple[str, ...] = ()
    toolchain_missing: bool = False


Make = Callable[[Variant, Board, Build], list[Variant]]


def engine_forms(variants: Sequence[Variant], board: Board, build: Build) -> Forms:
    """Forms of some ONNX variants for the board's engines beside ONNX Runtime and code of ours."""
    made: list[Variant] = []
    missing: list[str] = []
    without_tool = False
    for name in tried_engines(board, build.engines):
        if name in MAKERS:
            found = _forms_for(name, variants, board, build)
            made += found.variants
            missing += found.missing
            without_tool |= found.toolchain_missing
    return Forms(tuple(made), tuple(missing), without_tool)


def _forms_for(engine: str, variants: Sequence[Variant], board: Board, build: Build) -> Forms:
    made: list[Variant] = []
    reasons: dict[str, list[str]] = {}
    try:
        check_here(engine)
    except ToolchainMissing as reason:
        return Forms((), (f"no {engine}: {reason}",), toolchain_missing=True)
    for variant in variants:
        if not (board.supports(engine, precision_of(variant)) and _fits(engine, variant)):
            continue
        try:
            with build.stages.stage(f"{board.name}: {variant.name} for {engine}"):
                made += _loadable(MAKERS[engine](variant, board, build), build)
        except UnsupportedModel as reason:
            reasons.setdefault(str(reason), []).append(f"{engine}-{variant.name}")
        except ToolchainMissing as reason:
            return Forms((), (f"no {engine}: {reason}",), toolchain_missing=True)
    return Forms(tuple(made), tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()))


def _loadable(forms: list[Variant], build: Build) -> list[Variant]:
    """The same; raises where the engine here refuses one, so that it costs its candidates and not the target."""
    for form in forms:
        open_compiled(form.probe, Arithmetic.ENGINE, build.threads)
    return forms


def _fits(engine: str, variant: Variant) -> bool:
    """Whether an engine is tried with a plan: TFLite's rules are for TFLite, a plan that a person gave is for all."""
    scheme = variant.scheme
    if scheme is None:
        return True
    if scheme.method != "static":
        return False
    if engine in {litert.NAME, VELA}:
        return scheme.rules == "tflite" or not build_made(variant)
    return engine == openvino.NAME and scheme.rules != "tflite"


def precision_of(variant: Variant) -> Precision:
    """What it computes in: a model that came quantized says so in its operators only."""
    return "int8" if is_quantized(variant.graph) else variant.precision


def label_of(variant: Variant) -> str:
    """The name of a form behind that of its engine: the variant's own, but a model that came quantized is no float."""
    return "int8" if variant.plan is None and is_quantized(variant.graph) else variant.name


def build_made(variant: Variant) -> bool:
    """Whether the plan is of our own making, not one that the user gave."""
    return variant.scheme is not None and variant.plan_name.startswith(variant.scheme.name)


def _litert(variant: Variant, _: Board, build: Build) -> list[Variant]:
    forms = [_litert_form(variant, build, half_weights=False)]
    if variant.name == FLOAT and not is_quantized(variant.graph):
        forms.append(_litert_form(variant, build, half_weights=True))
    return forms


def _litert_form(variant: Variant, build: Build, *, half_weights: bool) -> Variant:
    def made(graph: Graph) -> EngineModel:
        folder = build.scratch.new_file(".litert")
        return litert.litert_model(graph, variant.precision, folder, half_weights=half_weights)

    model = made(variant.graph)
    return replace(
        variant,
        name=f"{litert.NAME}-{HALF if half_weights else label_of(variant)}",
        precision=precision_of(variant),
        model=model,
        probe=model if variant.logits is None else made(with_logits(variant.graph)[0]),
        source=variant,
        engine=litert.NAME,
        records=(*variant.records, operators_record(litert.NAME, litert.operators(model))),
    )


def _openvino(variant: Variant, _: Board, build: Build) -> list[Variant]:
    def made(content: ModelFile, graph: Graph) -> EngineModel:
        return openvino.openvino_model(content, graph, variant.precision, build.scratch.new_file(".openvino"))

    model = made(variant.onnx, variant.graph)
    return [
        replace(
            variant,
            name=f"{openvino.NAME}-{label_of(variant)}",
            precision=precision_of(variant),
            model=model,
            probe=model if variant.logits is None else made(*_onnx_with_logits(variant, build)),
            source=variant,
            engine=openvino.NAME,
        )
    ]


def _tvm(variant: Variant, board: Board, build: Build) -> list[Variant]:
    if variant.name != FLOAT:
        return []
    shapes = call_shapes(build)

    def made(target: Board, content: ModelFile, graph: Graph) -> EngineModel:
        return tvm.tvm_model(content, graph, shapes, target, build.scratch.new_file(".tvm"))

    probed = (variant.onnx, variant.graph) if variant.logits is None else _onnx_with_logits(variant, build)
    return [
        replace(
            variant,
            name=f"{tvm.NAME}-{variant.name}",
            model=made(board, variant.onnx, variant.graph),
            probe=made(build.host, *probed),
            source=variant,
            engine=tvm.NAME,
        )
    ]


def _onnx_with_logits(variant: Variant, build: Build) -> tuple[ModelFile, Graph]:
    graph = with_logits(variant.graph)[0]
    return write_model(graph, build.scratch), graph


def _ethos_u(variant: Variant, board: Board, build: Build) -> list[Variant]:
    folder = build.scratch.new_file(".ethos-u")
    made = ethos_u_model(variant.graph, board, folder)
    probe = made.model
    if variant.logits is not None:
        graph = with_logits(variant.graph)[0]
        probe = litert.litert_model(graph, variant.precision, build.scratch.new_file(".litert"))
    return [
        replace(
            variant,
            name=f"ethos-u-{label_of(variant)}",
            model=made.model,
            probe=probe,
            precision="int8",
            source=variant,
            engine=VELA,
            npu=made.report,
            records=(
                *variant.records,
                operators_record("ethos-u", made.on_npu),
                operators_record("cpu", made.on_cpu),
                PassRecord(name="vela", options=made.settings, evidence=made.figures),
            ),
        )
    ]


def operators_record(engine: str, counts: dict[str, int]) -> PassRecord:
    """How many of each operator an engine runs, for `edgewright bundle inspect`."""
    return PassRecord(name="operators", options={"engine": engine}, evidence=dict(sorted(counts.items())))


MAKERS: Final[dict[str, Make]] = {
    litert.NAME: _litert,
    openvino.NAME: _openvino,
    tvm.NAME: _tvm,
    VELA: _ethos_u,
}
