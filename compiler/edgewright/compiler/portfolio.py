"""Every way of shipping the model to a board that is tried: its engines times the precisions and plans they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgewright.targets.board import Board

from .build import Build
from .engine_choice import KNOWN_ENGINES, tried_engines
from .engine_forms import engine_forms
from .faults import ToolchainMissing, UnsupportedModel
from .lower import onnxruntime as engine
from .lower.compatibility import check_readable
from .native_variants import NativeForms, native_forms
from .quantize.offer import suits, tflite_schemes_for
from .trial import is_here
from .variants import FLOAT, NATIVE, Variant

NOT_KNOWN_FASTER = (
    "native code was not tried: the target is not here to be measured, and its estimates know no engines; "
    "--engine native ships it"
)


@dataclass(frozen=True)
class Portfolio:
    """What is tried, and why some form of the model is not."""

    variants: tuple[Variant, ...]
    missing: tuple[str, ...]


def portfolio(board: Board, build: Build) -> Portfolio:
    """All candidates of a board, those of ONNX Runtime first.

    Raises:
        ToolchainMissing: no engine of the board may ship, or the tool for the only one is not installed.
        UnsupportedModel: nothing of the model can run there.
    """
    check_engine(board, build)
    in_onnx = onnx_variants(board, build)
    code = as_code(_suited(in_onnx, exact=True), board, build)
    others = engine_forms([*(in_onnx or [build.variants[FLOAT]]), *tflite_variants(board, build)], board, build)
    for_onnx_runtime = _suited(in_onnx, exact=False) if runs_onnx(board, build) else []
    found = (*for_onnx_runtime, *code.variants, *others.variants)
    missing = (*code.missing, *others.missing)
    if not found:
        kind = ToolchainMissing if code.toolchain_missing or others.toolchain_missing else UnsupportedModel
        why = "; ".join((*missing, *build.no_int8)) or "none of its engines runs the model in any precision"
        raise kind(f"target {board.name}: {why}")
    return Portfolio(found, missing)


def forms_of(variants: Sequence[Variant], board: Board, build: Build) -> list[Variant]:
    """Forms of some ONNX variants for every engine but ONNX Runtime that the board takes them in."""
    for_code = [variant for variant in variants if not for_tflite(variant)]
    in_code = native_forms(for_code, board, build).variants if takes_code(board, build) and for_code else ()
    return [*in_code, *engine_forms(variants, board, build).variants]


def tflite_variants(board: Board, build: Build) -> list[Variant]:
    """QDQ graphs by TFLite's rules; they are what TFLite files are made of, and no candidates themselves."""
    names = [scheme.name for scheme in tflite_schemes_for(board, build.graph)]
    return [build.variants[name] for name in names if name in build.variants]


def for_tflite(variant: Variant) -> bool:
    """Whether a plan was made for TFLite's kernels: others would ship it, and lose by it."""
    return variant.scheme is not None and variant.scheme.rules == "tflite"


def check_engine(board: Board, build: Build) -> None:
    """Raises where none of the board's engines is one that this version builds for, and that may ship."""
    if tried_engines(board, build.engines):
        return
    names = ", ".join(support.name for support in board.engines)
    known = [support.name for support in board.engines if support.name in KNOWN_ENGINES]
    if known and build.engines is not None:
        raise ToolchainMissing(
            f"target {board.name}: --engine leaves none of its engines ({', '.join(known)}); name one of them"
        )
    raise ToolchainMissing(
        f"target {board.name}: its engines are {names}, this version builds for {', '.join(KNOWN_ENGINES)}. "
        "Leave the target out, or choose another board (edgewright targets list)"
    )


def runs_onnx(board: Board, build: Build) -> bool:
    """Whether bundles for ONNX Runtime may ship to the board."""
    return build.may_ship(engine.NAME) and any(support.name == engine.NAME for support in board.engines)


def onnx_variants(board: Board, build: Build) -> list[Variant]:
    """Variants whose precision some engine of the board runs, the float model first."""
    for support in board.engines:
        if support.name == engine.NAME and build.may_ship(engine.NAME):
            versions = f"{engine.VERSION_RANGE},{support.version}"  # the bundle's own range holds too
            check_readable(build.graph, engine.NAME, versions, f"target {board.name}")
    wanted = (FLOAT, *build.offers[board.name])
    present = [build.variants[name] for name in wanted if name in build.variants]
    names = [name for name in (engine.NAME, NATIVE) if build.may_ship(name)]
    return [variant for variant in present if any(board.supports(name, variant.precision) for name in names)]


def _suited(variants: list[Variant], *, exact: bool) -> list[Variant]:
    schemes = [variant.scheme for variant in variants]
    return [variant for variant in variants if suits(variant.scheme, schemes, exact=exact)]


def takes_code(board: Board, build: Build) -> bool:
    """Whether native code is tried: the target can be measured, or the user wants it, or nothing else may ship."""
    if not (build.may_ship(NATIVE) and any(support.name == NATIVE for support in board.engines)):
        return False
    return is_here(board, build.host) or build.asks_for(NATIVE) or not runs_onnx(board, build)


def as_code(variants: list[Variant], board: Board, build: Build) -> NativeForms:
    """Native forms of some variants, where the board takes them."""
    if not takes_code(board, build):
        runs_code = build.may_ship(NATIVE) and any(support.name == NATIVE for support in board.engines)
        return NativeForms((), (NOT_KNOWN_FASTER,) if runs_code else ())
    return native_forms(variants, board, build)
