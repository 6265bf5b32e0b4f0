"""The C source of what ships on a target, as one archive beside the bundle: for people without our runtime."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.targets.board import Board

from .build import Build
from .faults import UnsupportedModel
from .lower.native.export import export_c
from .lower.native.library import NativeModel
from .variants import Variant

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can say: the same source makes the same bytes."""
READABLE = 0o644 << 16


def write_c_source(chosen: Variant, variants: Sequence[Variant], board: Board, build: Build, stage: Path) -> str:
    """Writes `<target>-c.zip`; its name.

    Raises:
        UnsupportedModel: what ships has no native form.
    """
    wanted = {chosen.name, f"native-{chosen.name}"}
    for variant in variants:
        if variant.name in wanted and isinstance(variant.model, NativeModel):
            name = f"{board.name}-c.zip"
            _write(export_c(variant.model.source, build.name, variant.model.machine), stage / name)
            return name
    raise UnsupportedModel(
        f"--emit c: {chosen.name} ships on {board.name}, and it has no native form there; its report says why, or "
        "leave --emit out"
    )


def _write(files: Mapping[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.external_attr = READABLE
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
