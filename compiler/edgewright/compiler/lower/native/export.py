"""The C of a model as a product: for people who compile it into a program of their own, without our runtime.

What comes out stands alone: sources, weights, a program that runs them on files, a CMakeLists.txt and a page that says
how to build it in one line.
"""

from __future__ import annotations

import re
from pathlib import Path

from .machine import Machine
from .source import C_FOLDER, KERNELS_HEADER, MODEL_FILE, WEIGHTS_FILE, Source
from .toolchain_options import PORTABLE, isa_options

EXAMPLE_FILE = "example.c"
_TEMPLATES = C_FOLDER / "export"
_DECLARED = re.compile(rb"\bvoid (ew_\w+)\(")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.IGNORECASE)


def export_c(source: Source, name: str, machine: Machine, prefix: str = "edgewright") -> dict[str, bytes]:
    """The files of a folder that builds with CMake, or with one line of any GNU C compiler.

    Args:
        source: of the model.
        name: for the page; any text.
        machine: the one that the source was written for.
        prefix: of every symbol that the linker sees, so that one program can hold several models; the model is
            described by `PREFIX_describe`.

    Raises:
        ValueError: the prefix is no C identifier.
    """
    if not _IDENTIFIER.fullmatch(prefix):
        raise ValueError(f"the symbol prefix has to be a C identifier of at most 63 characters, got {prefix!r}")
    files = _renamed(source, prefix) if prefix != "edgewright" else dict(source.files)
    sources = [MODEL_FILE, *sorted(file for file in files if file.startswith("kernels_"))]
    words = {
        "NAME": " ".join(name.split()).replace("`", "'") or "model",
        "PREFIX": prefix,
        "SOURCES": " ".join(sources),
        "OPTIONS": " ".join((*PORTABLE, *isa_options(machine, "gcc"))),
        "MACHINE": machine.name,
        "ISA": " ".join(machine.isa) or "nothing special",
        "ARENA_BYTES": str(source.arena_bytes),
    }
    for template in ("CMakeLists.txt", "README.md", "model.h"):
        text = (_TEMPLATES / f"{template}.in").read_text(encoding="utf-8")
        file = f"{prefix}.h" if template == "model.h" else template
        files[file] = re.sub(r"@([A-Z_]+)@", lambda match: words[match[1]], text).encode()
    files[EXAMPLE_FILE] = (C_FOLDER / EXAMPLE_FILE).read_bytes()
    return dict(sorted(files.items()))


def write_c(files: dict[str, bytes], folder: Path) -> None:
    """Writes them into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _renamed(source: Source, prefix: str) -> dict[str, bytes]:
    """The sources with symbols that begin with the prefix; headers of operations have none that the linker sees."""
    symbols = {*_DECLARED.findall(source.files[KERNELS_HEADER]), b"ew_weights"}
    words = {symbol: prefix.encode() + symbol.removeprefix(b"ew") for symbol in symbols}
    words[b"edgewright_describe"] = f"{prefix}_describe".encode()
    pattern = re.compile(rb"\b(" + b"|".join(map(re.escape, sorted(words, reverse=True))) + rb")\b")
    generated = {MODEL_FILE, KERNELS_HEADER, *(file for file in source.files if file.startswith("kernels_"))}
    return {
        file: pattern.sub(lambda match: words[match[1]], content) if file in generated else content
        for file, content in source.files.items()
        if file != WEIGHTS_FILE
    } | {WEIGHTS_FILE: source.files[WEIGHTS_FILE]}
