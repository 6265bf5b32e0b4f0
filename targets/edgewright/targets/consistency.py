"""What no single key of a board can say: names that must exist, and facts that exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .board import BARE_DEDICATED_SRAM, CPU, VELA, Accelerator, Board, EngineSupport
from .isa import FEATURES


def problems(board: Board) -> list[str]:
    """Every contradiction, as `key …: what is wrong`; empty for a sound board."""
    names = [accelerator.name for accelerator in board.accelerators]
    found = []
    if CPU in names or len(set(names)) < len(names):
        found.append(f'key accelerators: names must differ from each other and from "{CPU}", got {", ".join(names)}')
    if len(set(board.cpu.isa)) < len(board.cpu.isa):
        found.append("key cpu.isa: a feature is listed twice")
    if board.arch == "cortex-m" and board.daemon:
        found.append("key daemon: expected false, the daemon needs Linux and cortex-m has none")
    wanted = {"cuda": "gpu", "npu": "npu"}.get(board.family)
    if wanted and wanted not in {accelerator.kind for accelerator in board.accelerators}:
        found.append(f"key family: {board.family} needs an accelerator of kind {wanted}")
    return found + _feature_problems(board) + _engine_problems(board, names) + _source_problems(board)


def _feature_problems(board: Board) -> list[str]:
    """A device never reports an unknown feature, and would refuse every bundle that asks for it."""
    known = FEATURES[board.arch]
    return [
        f"key cpu.isa: {feature} is not known for {board.arch}; known are {', '.join(sorted(known))}"
        for feature in sorted(set(board.cpu.isa) - known)
    ]


def _engine_problems(board: Board, names: list[str]) -> list[str]:
    found = _duplicates("engines", [(engine.name, engine.accelerator or CPU) for engine in board.engines])
    found += _duplicates("latency", [(model.precision, model.processor) for model in board.latency])
    by_name = {accelerator.name: accelerator for accelerator in board.accelerators}
    for at, engine in enumerate(board.engines):
        found += _vela_problems(f"key engines.{at}", engine, by_name.get(engine.accelerator or CPU))
        if engine.accelerator is None:
            continue
        accelerator = by_name.get(engine.accelerator)
        if accelerator is None:
            found.append(f"key engines.{at}.accelerator: expected one of {', '.join(names) or 'none'}")
        elif not set(engine.precisions) <= set(accelerator.precisions):
            known = ", ".join(accelerator.precisions)
            found.append(f"key engines.{at}.precisions: accelerator {accelerator.name} knows only {known}")
    for at, model in enumerate(board.latency):
        if model.processor not in (CPU, *names):
            found.append(f"key latency.{at}.processor: expected one of {', '.join((CPU, *names))}")
    return found


def _vela_problems(key: str, engine: EngineSupport, accelerator: Accelerator | None) -> list[str]:
    """A configuration for another NPU gives a command stream that this one does not run."""
    vela = engine.vela
    if engine.name != VELA:
        return [f"{key}.vela: only the engine {VELA} has one, not {engine.name}"] if vela else []
    if vela is None:
        return [f"{key}.vela: missing; {VELA} needs accelerator_config, system_config and memory_mode"]
    family, macs = vela.accelerator_config.rsplit("-", 1)
    found = []
    if accelerator is None:
        found.append(f"{key}.accelerator: expected the accelerator that is an {vela.accelerator_config}")
    elif (accelerator.name, accelerator.macs_per_cycle) != (family, int(macs)):
        got = f"{accelerator.name} of {accelerator.macs_per_cycle} MAC per cycle"
        found.append(f"{key}.vela.accelerator_config: {vela.accelerator_config} does not fit its accelerator, {got}")
    if not vela.system_config.lower().replace("_", "-").startswith(family):
        found.append(f"{key}.vela.system_config: {vela.system_config} is none of {family}")
    if vela.memory_mode == BARE_DEDICATED_SRAM and vela.arena_cache_size_bytes is None:
        found.append(f"{key}.vela.arena_cache_size_bytes: missing; {BARE_DEDICATED_SRAM} has no size of its own")
    return found


def _duplicates(key: str, labels: Sequence[tuple[str, str]]) -> list[str]:
    seen = {label for label in labels if labels.count(label) > 1}
    return [f"key {key}: {what} on {where} is listed twice" for what, where in sorted(seen)]


def _source_problems(board: Board) -> list[str]:
    data = msgspec.to_builtins(board)
    return [
        f"key sources.{key}: there is no such key in the board"
        for key in board.sources
        if not _has_path(data, key.split("."))
    ]


def _has_path(data: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True
