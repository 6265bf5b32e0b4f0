"""Boards by name or by path, with inheritance.

A board file may say `inherits = "x86-64-avx2"`: tables merge key by key, anything else is replaced.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from .board import Board, BoardError, board_from_data
from .host import detect_host

HOST = "host"
SUFFIX = ".toml"
MAX_FILE_BYTES = 64 * 1024
MAX_DEPTH = 8
"""Of nested tables and arrays in a file; the format itself needs four."""
MAX_ANCESTORS = 8


def board_names() -> tuple[str, ...]:
    """Names that `load_board` knows: `host` first, then the shipped boards in alphabetical order."""
    shipped = (entry.name for entry in _shipped_folder().iterdir())
    return (HOST, *sorted(name.removesuffix(SUFFIX) for name in shipped if name.endswith(SUFFIX)))


def load_board(name_or_path: str) -> Board:
    """The board of that name, this machine (`host`), or the board in a file of the user's (`./my-board.toml`)."""
    if name_or_path == HOST:
        return detect_host()
    if is_path(name_or_path):
        return load_board_file(Path(name_or_path))
    if name_or_path not in board_names():
        raise BoardError(_unknown_board(name_or_path))
    return load_board_file(_shipped_folder() / f"{name_or_path}{SUFFIX}")


def is_path(name_or_path: str) -> bool:
    """Whether the text means a file: it has a slash, or ends with .toml."""
    return "/" in name_or_path or name_or_path.endswith(SUFFIX)


def load_board_file(path: Path) -> Board:
    """Reads a board file with everything that it inherits, and checks it."""
    return board_from_data(_with_ancestors(path, chain=()), where=str(path))


def _shipped_folder() -> Path:
    return Path(__file__).parent / "boards"


def _unknown_board(name: str) -> str:
    close = difflib.get_close_matches(name, board_names(), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"unknown target {name!r}.{hint} Known: {', '.join(board_names())}. "
        "A file of your own works by its path, for example ./my-board.toml."
    )


def _with_ancestors(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    if path in chain:
        raise BoardError(f"{path}: inherits itself: {' -> '.join(link.name for link in (*chain, path))}")
    if len(chain) >= MAX_ANCESTORS:
        raise BoardError(f"{path}: more than {MAX_ANCESTORS} files inherit from each other; flatten them")
    data = read_board_data(path)
    parent = data.pop("inherits", None)
    if parent is None:
        return data
    return merge(_with_ancestors(_parent_path(path, parent), (*chain, path)), data)


def _parent_path(path: Path, parent: object) -> Path:
    shipped = _shipped_folder()
    if not isinstance(parent, str) or parent == HOST:
        raise BoardError(
            f"{path}: key inherits: expected the name of a shipped board or a file beside this one, got {parent!r}"
        )
    if is_path(parent):
        inherited = (path.parent / parent).resolve()
        if not inherited.is_relative_to(path.parent.resolve()):
            raise BoardError(
                f"{path}: key inherits: {parent!r} is outside the folder of this file; copy it beside this file"
            )
        return inherited
    if parent not in board_names():
        raise BoardError(f"{path}: key inherits: {_unknown_board(parent)}")
    return shipped / f"{parent}{SUFFIX}"


def read_board_data(path: Path) -> dict[str, Any]:
    """The plain data of one file, within bounds of size and depth; inheritance is not resolved."""
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
        raise BoardError(f"{path}: not valid TOML: {error}") from error
    _check_depth(data, path)
    return data


def _check_depth(data: dict[str, Any], path: Path) -> None:
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise BoardError(f"{path}: tables and arrays are nested deeper than {MAX_DEPTH} levels")


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return list(node) if isinstance(node, list) else []


def merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; anything else in `child` replaces what `parent` says."""
    merged = dict(parent)
    for key, value in child.items():
        inherited = merged.get(key)
        both_tables = isinstance(value, dict) and isinstance(inherited, dict)
        merged[key] = merge(inherited, value) if both_tables else value  # type: ignore[arg-type]
    return merged
