"""Native forms of the variants of a build, per target: the same model as code, where the target runs code of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgewright.bundle.manifest import PassRecord
from edgewright.targets.board import Board
from edgewright.targets.cost import estimate_call

from . import measure
from .build import Build
from .faults import ToolchainMissing, UnsupportedModel
from .logits import with_logits
from .lower.native.half_weights import with_half_weights
from .lower.native.library import NativeModel, compile_library, nets_of
from .lower.native.machine import Machine, machine_of
from .lower.native.net import Array, Dense, Net
from .lower.native.toolchain import GeneratedCodeRejected
from .lower.workload import workload
from .trial import call_shapes, is_here, one_call
from .variants import NATIVE, Variant

LEAST_SHARED_MS = 2.0
"""Of one thread's call: below, waking the others may cost what they save."""

NO_DYNAMIC_RANGES = "native code has no dynamic ranges; static int8 is what it takes"


@dataclass(frozen=True)
class NativeForms:
    """What there is, and why the rest is missing."""

    variants: tuple[Variant, ...]
    missing: tuple[str, ...]
    toolchain_missing: bool = False


def native_forms(variants: Sequence[Variant], board: Board, build: Build) -> NativeForms:
    """Native forms of those variants that native code can compute on the board."""
    made: list[Variant] = []
    missing: dict[str, list[str]] = {}
    for variant in variants:
        if not board.supports(NATIVE, variant.precision):
            continue
        if variant.plan is not None and variant.scheme is not None and variant.scheme.method == "dynamic":
            missing.setdefault(NO_DYNAMIC_RANGES, []).append(variant.name)
            continue
        try:
            made += native_form(variant, board, build)
        except (UnsupportedModel, GeneratedCodeRejected) as reason:
            missing.setdefault(str(reason), []).append(variant.name)
        except ToolchainMissing as reason:
            return NativeForms((), (f"no native code: {reason}",), toolchain_missing=True)
    return NativeForms(tuple(made), tuple(_note(names, reason) for reason, names in missing.items()))


def _note(names: Sequence[str], reason: str) -> str:
    return f"{', '.join(f'{NATIVE}-{name}' for name in names)}: {reason}"


def native_form(variant: Variant, board: Board, build: Build) -> list[Variant]:
    """A variant as code for a board; where weights are read once per call, also with weights of half the size.

    Raises:
        UnsupportedModel: an operator or a way to quantize has no native form.
        ToolchainMissing: there is no compiler for the board.
    """
    machine = machine_of(board)
    nets = nets_of(variant.graph, machine)
    forms = [_form(variant, f"{NATIVE}-{variant.name}", nets, board, build)]
    if variant.plan is None and (halved := with_half_weights(nets, machine)) is not None:
        forms.append(_form(variant, f"{NATIVE}-{variant.name}-half-weights", halved, board, build))
    return forms


def _form(variant: Variant, name: str, nets: dict[int, Net], board: Board, build: Build) -> Variant:
    machine, here = machine_of(board), machine_of(build.host)
    model = _compiled(name, nets, machine, build, min(build.threads, board.cpu.cores))
    if model.threads > 1 and not _pays_threads(variant, model, board, build):
        model = _compiled(name, nets, machine, build)
    probe = model
    if variant.logits is not None:
        every = nets_of(with_logits(variant.graph)[0], here)
        probed = {min(every): every[min(every)]}
        halves = any(array.dtype == "float16" for array in _weights(nets))
        probe = _compiled(name, (with_half_weights(probed, machine) or probed) if halves else probed, here, build)
    return replace(
        variant,
        name=name,
        model=model,
        probe=probe,
        source=variant,
        engine=NATIVE,
        records=(*variant.records, _record(model)),
    )


def _weights(nets: dict[int, Net]) -> list[Array]:
    return [layer.weight for net in nets.values() for layer in net.layers if isinstance(layer, Dense)]


def _pays_threads(variant: Variant, model: NativeModel, board: Board, build: Build) -> bool:
    """Whether one thread takes so long that several are worth waking, and several are faster for certain.

    Both are timed here; of an absent target the least of the estimate tells how long one takes.
    """
    if is_here(board, build.host):
        single = replace(model, threads=1)
        alone, shared = build.timings.shared(single, model, board, one_call(build), build.stages)
        return measure.summarise(alone).value >= LEAST_SHARED_MS and measure.ratio(shared, alone).high < 1
    parts = workload(variant.graph, call_shapes(build))
    known = parts if variant.precision in parts else {variant.precision: parts["float32"]}
    return estimate_call(board, known, 1).low_ms >= LEAST_SHARED_MS


def _compiled(name: str, nets: dict[int, Net], machine: Machine, build: Build, threads: int = 1) -> NativeModel:
    with build.stages.stage(f"tuning {name} for {machine.name}") as advance:  # most of it compiles: no count tells
        choices = build.tunings.choices(list(nets.values()), machine, advance)
    with build.stages.stage(f"compiling {name} for {machine.name}"):
        folder = build.scratch.new_file(".native")
        return compile_library(_identifier(build.name), nets, machine, machine_of(build.host), choices, folder, threads)


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _record(model: NativeModel) -> PassRecord:
    return PassRecord(
        name="native",
        options={"machine": model.machine.name},
        evidence={
            "arena_bytes": model.arena_bytes,
            "library_bytes": model.size_bytes,
            "toolchain": model.toolchain,
            **({"threads": model.threads} if model.threads > 1 else {}),
        },
    )
