"""Native forms of the variants of a build, per target: the same model as code, where the target runs code of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgewright.bundle.manifest import PassRecord
from edgewright.targets.board import Board

from .build import Build
from .faults import ToolchainMissing, UnsupportedModel
from .logits import with_logits
from .lower.native.library import NativeModel, compile_library, nets_of
from .lower.native.machine import Machine, machine_of
from .variants import NATIVE, Variant


@dataclass(frozen=True)
class NativeForms:
    """What there is, and why the rest is missing."""

    variants: tuple[Variant, ...]
    missing: tuple[str, ...]
    toolchain_missing: bool = False


def native_forms(variants: Sequence[Variant], board: Board, build: Build) -> NativeForms:
    """Native forms of those variants that native code can compute on the board."""
    made, missing = [], []
    for variant in variants:
        if not board.supports(NATIVE, variant.precision):
            continue
        try:
            made.append(native_form(variant, board, build))
        except UnsupportedModel as reason:
            missing.append(f"native {variant.name}: {reason}")
        except ToolchainMissing as reason:
            return NativeForms((), (str(reason),), toolchain_missing=True)
    return NativeForms(tuple(made), tuple(dict.fromkeys(missing)))


def native_form(variant: Variant, board: Board, build: Build) -> Variant:
    """A variant as code for a board.

    Raises:
        UnsupportedModel: an operator or a way to quantize has no native form.
        ToolchainMissing: there is no compiler for the board.
    """
    machine = machine_of(board)
    model = _compiled(variant, machine, build, probed=False)
    return replace(
        variant,
        name=f"{NATIVE}-{variant.name}",
        model=model,
        probe=model if variant.logits is None else _compiled(variant, machine_of(build.host), build, probed=True),
        source=variant,
        records=(*variant.records, _record(model, machine)),
    )


def _compiled(variant: Variant, machine: Machine, build: Build, *, probed: bool) -> NativeModel:
    graph = with_logits(variant.graph)[0] if probed else variant.graph
    nets = nets_of(graph)
    here = machine_of(build.host)
    with build.stages.stage(f"tuning {variant.name} for {machine.name}", 1) as advance:
        choices = build.tunings.choices(list(nets.values()), machine, advance)
    with build.stages.stage(f"compiling {variant.name} to code for {machine.name}"):
        folder = build.scratch.new_file(".native")
        return compile_library(_identifier(build.name), nets, machine, here, choices, folder)


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _record(model: NativeModel, machine: Machine) -> PassRecord:
    return PassRecord(
        name="native",
        options={"machine": machine.name},
        evidence={
            "arena_bytes": model.arena_bytes,
            "library_bytes": model.size_bytes,
            "toolchain": model.toolchain,
        },
    )
