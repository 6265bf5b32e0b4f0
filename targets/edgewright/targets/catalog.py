"""Boards by name or by path: the shipped ones, this machine, and users' own files."""

from __future__ import annotations

import difflib
from pathlib import Path

import msgspec

from .board import Board, BoardError, LatencyModel
from .boardfile import HOST, SUFFIX, is_path, load_board_file
from .host import detect_host

BOARDS = Path(__file__).parent / "boards"

BORROWED_BAND = 1.5
"""How much wider the error band of borrowed latency constants is: the clock and the caches are another machine's."""


def board_names() -> tuple[str, ...]:
    """Names that `load_board` knows: `host` first, then the shipped boards in alphabetical order."""
    return (HOST, *sorted(path.stem for path in BOARDS.glob(f"*{SUFFIX}")))


def load_board(name_or_path: str) -> Board:
    """The board of that name, this machine (`host`), or the board in a file of the user's (`./my-board.toml`).

    Raises:
        BoardError: the name is unknown, or the file is wrong.
    """
    if name_or_path == HOST:
        return _with_latency(detect_host())
    if is_path(name_or_path):
        return load_user_board(Path(name_or_path))
    return _with_latency(load_board_file(shipped_path(name_or_path), shipped_path))


def load_user_board(path: Path) -> Board:
    """A board from a file outside the catalogue; it may inherit from the catalogue but not take a name from it."""
    board = load_board_file(path, shipped_path)
    if board.name in board_names() and path.resolve().parent != BOARDS.resolve():
        raise BoardError(
            f"{path}: key name: {board.name} is the name of a shipped board; devices go by the name, so choose another"
        )
    return _with_latency(board)


def shipped_path(name: str) -> Path:
    """The file of a shipped board."""
    if name not in board_names()[1:]:
        raise BoardError(_unknown_board(name))
    return BOARDS / f"{name}{SUFFIX}"


def _unknown_board(name: str) -> str:
    close = difflib.get_close_matches(name, board_names(), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return (
        f"unknown target {name!r}.{hint} Known: {', '.join(board_names())}. "
        "A file of your own works by its path, for example ./my-board.toml."
    )


def _with_latency(board: Board) -> Board:
    """Borrows latency constants for the CPU from the shipped board of the nearest instruction set."""
    if board.latency:
        return board
    lender = similar_board(board)
    if lender is None or lender == board.name:
        return board
    shipped = load_board_file(shipped_path(lender), shipped_path)
    borrowed = tuple(_borrowed(model, shipped) for model in shipped.latency if model.processor == "cpu")
    return msgspec.structs.replace(board, latency=borrowed)


def similar_board(board: Board) -> str | None:
    """The shipped board whose cores are most like these; None where there is no resemblance."""
    isa = set(board.cpu.isa)
    if board.arch == "x86_64":
        if isa & {"avx512_vnni", "avx_vnni"}:
            return "x86-64-avx512-vnni"
        return "x86-64-avx512" if "avx512f" in isa else "x86-64-avx2"
    if board.arch == "cortex-m":
        return None
    if board.cpu.model in ("Cortex-A53", "Cortex-A55", "Cortex-A35", "Cortex-A7"):
        return "imx93"
    return "raspberry-pi-5" if "asimddp" in isa else "raspberry-pi-4"


def _borrowed(model: LatencyModel, lender: Board) -> LatencyModel:
    return msgspec.structs.replace(
        model,
        low_factor=round(model.low_factor * BORROWED_BAND, 2),
        high_factor=round(model.high_factor * BORROWED_BAND, 2),
        source=f"borrowed from {lender.name}, band widened by {BORROWED_BAND}: {model.source}"[:400],
    )
