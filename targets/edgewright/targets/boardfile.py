"""Reads a board file: bounds, inheritance, and errors that say which key, what was expected, and in which file.

A file may say `inherits = "x86-64-avx2"` (a shipped board) or `inherits = "base.toml"` (a file in the same folder or
below). Tables merge key by key; anything else that the child says replaces what the parent says.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from .board import (
    Accumulation,
    Arch,
    Board,
    BoardError,
    Family,
    Precision,
    VelaAccelerator,
    VelaMemoryMode,
    VelaSystem,
)
from .consistency import problems

SUFFIX = ".toml"
MAX_FILE_BYTES = 64 * 1024
MAX_DEPTH = 8
"""Of nested tables and arrays; the format itself needs four."""
MAX_SHOWN_CHARACTERS = 160
"""Of a value or a key in an error."""

MAX_FILES = 8
"""In one chain of inheritance."""

HOST = "host"
"""The detected board; no file may take its name or inherit from it, because it is another one on each machine."""

INHERITS = "inherits"
ALLOWED_VALUES: dict[str, tuple[str, ...]] = {
    "family": get_args(Family),
    "arch": get_args(Arch),
    "u8s8": get_args(Accumulation),
    "s8s8": get_args(Accumulation),
    "u8u8": get_args(Accumulation),
    "precision": get_args(Precision),
    "precisions": get_args(Precision),
    "kind": ("gpu", "npu"),
    "accelerator_config": get_args(VelaAccelerator),
    "system_config": get_args(VelaSystem),
    "memory_mode": get_args(VelaMemoryMode),
}
"""What to tell the reader where the value is one of a list."""

TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
}

Resolve = Callable[[str], Path]
"""Path of a shipped board by name; raises BoardError where there is none."""


@dataclass(frozen=True)
class Layer:
    """One file of a chain of inheritance."""

    path: Path
    data: dict[str, Any]


def load_board_file(path: Path, resolve: Resolve) -> Board:
    """Reads a board file with everything that it inherits, and checks it."""
    layers = _read_layers(path, resolve)
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        own = {key: value for key, value in layer.data.items() if key != INHERITS}
        merged = merge(_without_stale_sources(merged, own), own)
    _require_own_name(layers[0])
    try:
        board = msgspec.convert(merged, Board, strict=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error), merged, layers) from error
    for problem in problems(board):
        raise BoardError(f"{path}: {_shortened(problem)}")
    return board


def read_layer(path: Path) -> Layer:
    """The plain data of one file, within bounds of size and depth; inheritance is not resolved."""
    if path.exists() and not path.is_file():
        raise BoardError(f"{path}: expected a regular file with a board in TOML")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BoardError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise BoardError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no board file is")
    try:
        data = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # ValueError covers bad UTF-8, bad TOML, and numbers with more digits than Python converts.
        raise BoardError(f"{path}: not valid TOML: {_shortened(error)}") from error
    if _deeper_than(data, MAX_DEPTH):
        raise BoardError(f"{path}: tables and arrays are nested deeper than {MAX_DEPTH} levels")
    return Layer(path, data)


def merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; anything else in `child` replaces what `parent` says."""
    merged = dict(parent)
    for key, value in child.items():
        inherited = merged.get(key)
        merged[key] = merge(inherited, value) if isinstance(value, dict) and isinstance(inherited, dict) else value
    return merged


def _read_layers(path: Path, resolve: Resolve) -> list[Layer]:
    """The file and its ancestors, nearest first."""
    layers = [read_layer(path)]
    while (parent := layers[-1].data.get(INHERITS)) is not None:
        parent_path = _parent_path(layers[-1].path, parent, resolve)
        chain = [*(layer.path for layer in layers), parent_path]
        if parent_path.resolve() in {layer.path.resolve() for layer in layers}:
            raise BoardError(f"{path}: key inherits: it goes in a circle: {' -> '.join(link.name for link in chain)}")
        if len(chain) > MAX_FILES:
            raise BoardError(f"{path}: key inherits: more than {MAX_FILES} files inherit from each other; flatten them")
        layers.append(read_layer(parent_path))
    return layers


def _parent_path(path: Path, parent: object, resolve: Resolve) -> Path:
    if not isinstance(parent, str) or parent == HOST:
        got = _shown(parent)
        raise BoardError(f"{path}: key inherits: expected the name of a shipped board or a file beside this, got {got}")
    if not is_path(parent):
        try:
            return resolve(parent)
        except BoardError as error:
            raise BoardError(f"{path}: key inherits: {error}") from error
    inherited = (path.parent / parent.replace("\0", "")).resolve()
    if not inherited.is_relative_to(path.parent.resolve()):
        raise BoardError(f"{path}: key inherits: {parent!r} is outside the folder of this file; copy it there")
    return inherited


def is_path(name_or_path: str) -> bool:
    """Whether the text means a file: it has a slash, or ends with .toml."""
    return "/" in name_or_path or name_or_path.endswith(SUFFIX)


def _require_own_name(layer: Layer) -> None:
    name = layer.data.get("name")
    if name is None and INHERITS in layer.data:
        raise BoardError(
            f"{layer.path}: key name: missing; a board that inherits is another board and needs its own name"
        )
    if name == HOST:
        raise BoardError(f'{layer.path}: key name: "host" is the machine at hand; choose another name')


def _without_stale_sources(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """The parent without the sources of keys that the child overrides: they would vouch for the wrong figure."""
    sources = parent.get("sources")
    if not isinstance(sources, dict):
        return parent
    kept = {key: text for key, text in sources.items() if not _is_set(child, key.split("."))}
    return {**parent, "sources": kept}


def _is_set(data: dict[str, Any], keys: Sequence[str]) -> bool:
    """Whether `data` replaces the value at that path (a table on the way merges, and so does one at the end)."""
    node: Any = data
    for key in keys:
        if not isinstance(node, dict):
            return True
        if key not in node:
            return False
        node = node[key]
    return not isinstance(node, dict)


def _deeper_than(data: dict[str, Any], depth: int) -> bool:
    level: list[Any] = [data]
    for _ in range(depth):
        level = [child for node in level for child in _children(node)]
    return any(isinstance(node, dict | list) for node in level)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return list(node) if isinstance(node, list) else []


def _explained(message: str, data: dict[str, Any], layers: Sequence[Layer]) -> BoardError:
    """Turns msgspec's message into: file, key, what was expected, what came."""
    reason, _, place = message.partition(" - at ")
    keys = [index or name for name, index in re.findall(r"([A-Za-z_][\w]*)|\[(\d+|\.\.\.)\]", place.partition("$")[2])]
    if missing := re.search(r"missing required field `(.+?)`", reason):
        return _fault(layers[0].path, [*keys, missing[1]], "missing; it is required")
    if unknown := re.search(r"contains unknown field `(.+?)`", reason):
        key = unknown[1]
        known = [field.encode_name for field in _fields_at(keys)]
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"
        return _fault(_origin(layers, [*keys, key]), [*keys, key], f"unknown; {hint}")
    allowed = next((ALLOWED_VALUES[key] for key in reversed(keys) if key in ALLOWED_VALUES), ())
    expected = f"one of {', '.join(allowed)}" if allowed else _in_words(reason)
    got = _shown(_value_at(data, keys))
    return _fault(_origin(layers, keys), keys, f"expected {expected}, got {got}")


def _in_words(reason: str) -> str:
    """Msgspec's `Expected `int` >= 1, got `str`` in the words of a TOML file."""
    expected = reason.removeprefix("Expected ").partition(", got ")[0]
    return re.sub(r"`(\w+)`", lambda found: TYPE_WORDS.get(found[1], found[1]), expected).replace("`", "")


def _fault(path: Path, keys: Sequence[str], text: str) -> BoardError:
    return BoardError(f"{path}: key {_shortened('.'.join(keys))}: {text}")


def _fields_at(keys: Sequence[str]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Fields of the struct at that path."""
    struct: Any = Board
    for key in keys:
        if key.isdigit():
            continue
        annotation = next(field.type for field in msgspec.structs.fields(struct) if field.encode_name == key)
        struct = next((part for part in _parts(annotation) if _is_struct(part)), struct)
    return msgspec.structs.fields(struct)


def _parts(annotation: Any) -> list[Any]:
    """The annotation and everything inside it (Annotated, tuple, union)."""
    return [annotation, *(part for inner in get_args(annotation) for part in _parts(inner))]


def _is_struct(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, msgspec.Struct)


def _origin(layers: Sequence[Layer], keys: Sequence[str]) -> Path:
    """The nearest file that says something at that path."""
    for layer in layers:
        if _value_at(layer.data, keys) is not None:
            return layer.path
    return layers[0].path


def _value_at(data: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
    return data


def _shown(value: object) -> str:
    return _shortened(repr(value))


def _shortened(value: object) -> str:
    """One printable line: the text may come from a hostile file."""
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."
