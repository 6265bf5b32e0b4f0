"""A .tflite file for a board's Ethos-U: compiled, and compiled again with rewrites where they keep more off the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgewright.targets.board import VELA, Board, Vela

from ...faults import UnsupportedModel
from ...tflite.file.model import Model
from ...tflite.file.read import read
from ...tflite.file.write import write
from .cpu_operators import NPU_OPERATOR, CpuOperator, cpu_operators
from .faults import VelaFault
from .outcome import remaining_operators
from .price import cpu_cost_ms
from .report import NpuCpuOperator, NpuReport, npu_report
from .rewrites.table import rewrite, suggestion
from .rewrites.windows import shielded
from .summary import Summary, read_summary
from .vela import run_vela, vela_version

MAX_TRIALS = 16
"""Rewrites that are tried one by one, a run of Vela each, where all together are no gain."""


@dataclass(frozen=True)
class Optimised:
    """What Vela made of one model."""

    model: bytes
    """A .tflite file whose operator `ethos-u` holds command streams."""
    summary: Summary
    on_cpu: tuple[CpuOperator, ...]


@dataclass(frozen=True)
class NpuBuild:
    """What goes into the bundle, and what the report says about it."""

    model: bytes
    """A .tflite file for the board's NPU."""
    source: bytes
    """The file that Vela got, with the rewrites that were applied: the same outputs, on any LiteRT."""
    report: NpuReport


@dataclass(frozen=True)
class _Stage:
    """A model on its way, and what Vela makes of it."""

    source: Model
    content: bytes
    optimised: Optimised


def optimise(tflite: bytes, board: Board, scratch_folder: Path) -> NpuBuild:
    """Compiles a .tflite file for the board's NPU. The same bytes and board give the same build.

    Rewrites are bit-exact. They are kept where they leave fewer operators on the CPU and, as far as that is known,
    do not make the whole slower.

    Args:
        tflite: an int8 model; operators in float stay on the CPU.
        board: one with the engine `ethos-u-vela`.
        scratch_folder: for Vela's files; what it wrote is gone afterwards.

    Raises:
        ModelError: it is no TFLite file.
        UnsupportedModel: Vela refuses it or crashes on it, or it has been through Vela before.
        ToolchainMissing: Vela is not installed.
    """
    vela = vela_of(board)
    first = _first(tflite, vela, scratch_folder)
    best, applied = _improved(first, board, vela, scratch_folder)
    done = [one for one in first.optimised.on_cpu if one.index in applied]
    entries = _entries(first.source, board, done, applied=True)
    entries += _entries(best.source, board, best.optimised.on_cpu, applied=False)
    report = npu_report(best.optimised.summary, vela_version(), len(best.source.operators), entries)
    return NpuBuild(model=best.optimised.model, source=best.content, report=report)


def vela_of(board: Board) -> Vela:
    """How Vela compiles for the board.

    Raises:
        UnsupportedModel: the board has no Ethos-U.
    """
    for engine in board.engines:
        if engine.name == VELA and engine.vela is not None:
            return engine.vela
    names = ", ".join(engine.name for engine in board.engines)
    raise UnsupportedModel(f"board {board.name}: no engine {VELA}; it has {names}. Choose a target with an Ethos-U")


def compile_once(tflite: bytes, source: Model, vela: Vela, scratch_folder: Path) -> Optimised:
    """One run of Vela; `source` is what `tflite` says.

    Raises:
        UnsupportedModel: Vela refuses it or crashes on it.
        ToolchainMissing: Vela is not installed.
    """
    output = run_vela(tflite, vela, scratch_folder)
    on_cpu = cpu_operators(source, remaining_operators(output.model), output.log)
    return Optimised(output.model, read_summary(output.summary), on_cpu)


def _first(tflite: bytes, vela: Vela, scratch_folder: Path) -> _Stage:
    """The model as it came; with shields where Vela stumbles over its paddings."""
    source = read(tflite, "the model for Vela")
    if any(operator.custom == NPU_OPERATOR for operator in source.operators):
        raise UnsupportedModel(
            f"the model has an operator {NPU_OPERATOR}: it has been through Vela already. Give the file that it was "
            "made from; a command stream fits one NPU only"
        )
    try:
        return _Stage(source, tflite, compile_once(tflite, source, vela, scratch_folder))
    except VelaFault:
        safer = shielded(source)
        stage = _tried(safer, vela, scratch_folder) if safer is not None else None
        if stage is None:
            raise
        return stage


def _improved(first: _Stage, board: Board, vela: Vela, scratch_folder: Path) -> tuple[_Stage, frozenset[int]]:
    """The best stage, and which operators of the first are rewritten in it.

    From the last operator to the first, so that a rewrite does not move those that are still to come.
    """
    indices = sorted((operator.index for operator in first.optimised.on_cpu), reverse=True)
    together = _rewritten(first.source, first, indices)
    if together is None:
        return first, frozenset()
    model, changed = together
    stage = _tried(model, vela, scratch_folder)
    if stage is not None and _is_better(stage, first, board):
        return stage, changed
    best, applied = first, frozenset[int]()
    for index in sorted(changed, reverse=True)[:MAX_TRIALS] if len(changed) > 1 else ():
        alone = _rewritten(best.source, first, [index])
        stage = _tried(alone[0], vela, scratch_folder) if alone is not None else None
        if stage is not None and _is_better(stage, best, board):
            best, applied = stage, applied | {index}
    return best, applied


def _rewritten(source: Model, first: _Stage, indices: Sequence[int]) -> tuple[Model, frozenset[int]] | None:
    """The model with every safe rewrite of these operators, and which have one; None where none has."""
    on_cpu = {operator.index: operator for operator in first.optimised.on_cpu}
    model, changed = source, set()
    for index in indices:
        advice = suggestion(first.source, on_cpu[index])
        result = rewrite(model, index, advice) if advice is not None else None
        if result is not None:
            model = result
            changed.add(index)
    return (model, frozenset(changed)) if changed else None


def _tried(model: Model, vela: Vela, scratch_folder: Path) -> _Stage | None:
    """A stage, but nothing where Vela refuses it: the model without the rewrite is there."""
    content = write(model)
    try:
        return _Stage(model, content, compile_once(content, model, vela, scratch_folder))
    except VelaFault:
        return None


def _is_better(stage: _Stage, than: _Stage, board: Board) -> bool:
    if len(stage.optimised.on_cpu) >= len(than.optimised.on_cpu):
        return False
    before, after = _total_ms(than, board), _total_ms(stage, board)
    return before is None or after is None or after <= before


def _total_ms(stage: _Stage, board: Board) -> float | None:
    """NPU and CPU together; None where the board cannot tell what its cores take."""
    total = stage.optimised.summary.inference_s * 1_000
    for operator in stage.optimised.on_cpu:
        cost = cpu_cost_ms(stage.source, stage.source.operators[operator.index], board)
        if cost is None:
            return None
        total += cost
    return total


def _entries(
    model: Model, board: Board, operators: Sequence[CpuOperator], *, applied: bool
) -> tuple[NpuCpuOperator, ...]:
    entries = []
    for operator in operators:
        advice = suggestion(model, operator)
        entries.append(
            NpuCpuOperator(
                name=operator.name,
                type=operator.tflite_type,
                reason=operator.reason,
                cost_ms=cpu_cost_ms(model, model.operators[operator.index], board),
                rewrite=advice.sentence if advice else None,
                applied=applied,
            )
        )
    return tuple(entries)
