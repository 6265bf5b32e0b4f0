"""How the commands print bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from .manifest import Accuracy, Latency, Manifest, Step, TensorSpec

_SHOWN_VALUES = 8

OPERATORS = "operators"
"""Name of the records that count operators; option `engine` says whose."""


def busy(doing: str) -> Status:
    """A spinner on a terminal, for bundles of gigabytes; nothing elsewhere."""
    return Console(stderr=True).status(escape(doing))


def print_manifest(manifest: Manifest) -> None:
    """A table of the manifest for people."""
    console = Console()
    table = Table(title=escape(f"{manifest.model} {manifest.version} for {manifest.target.name}"), show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _rows(manifest):
        table.add_row(escape(name), escape(value))
    console.print(table)
    if (operators := _operators(manifest)) is not None:
        console.print(operators)
    files = Table("file", "bytes", "sha256", title="Files")
    files.columns[1].justify = "right"
    for entry in manifest.entries:
        files.add_row(escape(entry.path), f"{entry.size_bytes:,}", f"{entry.sha256[:16]}…")
    console.print(files)


def _operators(manifest: Manifest) -> Table | None:
    """How many of each operator every engine runs; None where the compiler did not say."""
    records = [step for step in manifest.lineage.passes if step.name == OPERATORS and step.evidence]
    if not records:
        return None
    engines = [str(step.options.get("engine", "?")) for step in records]
    table = Table("operator", *(escape(engine) for engine in engines), title="Operators by engine")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in sorted({name for step in records for name in step.evidence}):
        table.add_row(escape(name), *(str(step.evidence.get(name, "")) for step in records))
    return table


def _rows(manifest: Manifest) -> list[tuple[str, str]]:
    target, engine, lineage = manifest.target, manifest.engine, manifest.lineage
    options = ", ".join(f"{key}={value}" for key, value in engine.options.items())
    return [
        ("format", str(manifest.format_version)),
        ("security epoch", str(manifest.security_epoch)),
        ("precision", manifest.precision),
        ("target", f"{target.name} ({target.arch}) {target.digest}"),
        ("needs", " ".join(target.isa) or "no special instructions"),
        ("engine", f"{engine.name} {engine.version}" + (f" ({options})" if options else "")),
        *_native(manifest),
        *(("input", _tensor(spec)) for spec in manifest.inputs),
        *(("before the model", _step(step)) for step in manifest.preprocess),
        *(("model input", _tensor(spec)) for spec in manifest.model_inputs),
        *(("model output", _tensor(spec)) for spec in manifest.model_outputs),
        *(("after the model", _step(step)) for step in manifest.postprocess),
        *(("output", _tensor(spec)) for spec in manifest.outputs),
        *(("state", f"{pair.output} → {pair.input}, kept on the device") for pair in manifest.state),
        ("memory", f"{manifest.memory.model_bytes:,} bytes loaded, {manifest.memory.peak_bytes:,} at peak"),
        ("latency", _latency(manifest.latency)),
        ("accuracy", _accuracy(manifest.accuracy)),
        ("flags", ", ".join(manifest.flags) or "none"),
        ("passes", " → ".join(step.name for step in lineage.passes if step.name != OPERATORS) or "none"),
        ("source", lineage.source_digest),
        ("tools", ", ".join(f"{name} {version}" for name, version in sorted(lineage.tools.items()))),
    ]


def _native(manifest: Manifest) -> list[tuple[str, str]]:
    """What is told of code that was made for the target; nothing where an engine interprets the model."""
    evidence = next((step.evidence for step in manifest.lineage.passes if step.name == manifest.engine.name), {})
    return [
        (key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        for key, value in evidence.items()
    ]


def _tensor(spec: TensorSpec) -> str:
    shape = ", ".join("any" if size == -1 else str(size) for size in spec.shape)
    return f"{spec.name}: {spec.datatype} [{shape}]" + (f" {spec.layout}" if spec.layout else "")


def _step(step: Step) -> str:
    """Its name and options; of long lists the first few."""
    options = msgspec.structs.asdict(step)
    words = [f"{key} {_value(value)}" for key, value in options.items() if value not in ((), None)]
    return f"{step.__struct_config__.tag}: {', '.join(words)}"


def _value(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return " ".join(str(each) for each in value[:_SHOWN_VALUES]) + (" …" if len(value) > _SHOWN_VALUES else "")


def _latency(latency: Latency) -> str:
    interval = latency.interval
    return (
        f"{latency.p50_ms:.3g} ms, {latency.kind} (95 %: {interval.low:.3g} to {interval.high:.3g}): {latency.method}"
    )


def _accuracy(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "not measured"
    interval, drop = accuracy.interval, accuracy.drop_interval
    return (
        f"{accuracy.metric} {accuracy.value:.4g} (95 %: {interval.low:.4g} to {interval.high:.4g}), float "
        f"{accuracy.float_value:.4g}, drop {accuracy.drop:.3g} ({drop.low:.3g} to {drop.high:.3g}), "
        f"{accuracy.samples} samples"
    )


def print_verified(manifest: Manifest, digest: str | None, path: Path, as_json: bool) -> None:
    """Say that a bundle is good."""
    total = sum(entry.size_bytes for entry in manifest.entries)
    result: dict[str, Any] = {"valid": True, **_identity(manifest), "digest": digest, "content_bytes": total}
    text = f"{path}: good: {_title(manifest)}, {len(manifest.entries)} files, {total:,} bytes"
    _print(result, text + (f"\n{digest}" if digest else ""), as_json)


def print_unpacked(manifest: Manifest, destination: Path, as_json: bool) -> None:
    """Say where a bundle went."""
    result = {"destination": str(destination), **_identity(manifest)}
    _print(result, f"{_title(manifest)} is in {destination}", as_json)


def _identity(manifest: Manifest) -> dict[str, Any]:
    return {"model": manifest.model, "version": manifest.version, "target": manifest.target.name}


def _title(manifest: Manifest) -> str:
    return f"{manifest.model} {manifest.version} for {manifest.target.name}"


def _print(result: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        Console(soft_wrap=True, highlight=False).print(escape(text))
