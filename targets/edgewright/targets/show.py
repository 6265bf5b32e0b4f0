"""Boards for people: tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .board import Board
from .diff import Difference, Plain, flatten


def print_boards(boards: Sequence[Board]) -> None:
    """One line per board."""
    table = Table(box=None, pad_edge=False)
    for heading in ("Target", "Family", "Arch", "CPU", "RAM", "Int8 sums", "Daemon"):
        table.add_column(heading, no_wrap=True)
    for board in boards:
        cpu = f"{board.cpu.cores} x {board.cpu.clock_hz / 1e9:.1f} GHz"
        int8 = "saturate" if "saturating16" in (board.cpu.int8.u8s8, board.cpu.int8.s8s8) else "exact"
        daemon = "yes" if board.daemon else "no"
        row = (board.name, board.family, board.arch, cpu, size(board.memory.ram_bytes), int8, daemon)
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)


def print_board(board: Board) -> None:
    """Every key of one board, and its digest."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in flatten(board).items():
        if value is None and key.startswith("engines."):
            continue  # most engines have no configuration of their own
        table.add_row(escape(key), escape(_cell(key, value)))
    Console().print(table)
    Console().print(f"digest {board.digest()}", soft_wrap=True)


def print_differences(left: Board, right: Board, differences: Sequence[Difference]) -> None:
    """Two columns, one per board; prose is left to `--json`."""
    differences = [difference for difference in differences if not _is_prose(difference.key)]
    if not differences:
        Console().print(f"{escape(left.name)} and {escape(right.name)} are equal")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("Key", left.name, right.name):
        table.add_column(escape(heading), overflow="fold")
    for difference in differences:
        cells = (difference.key, _cell(difference.key, difference.left), _cell(difference.key, difference.right))
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)


def _is_prose(key: str) -> bool:
    return key == "description" or key.startswith("sources.") or key.endswith(".source")


def _cell(key: str, value: Plain) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and key.endswith("_hz"):
        return f"{value / 1e9:g} GHz"
    if isinstance(value, int) and key.endswith("_bytes_per_s"):
        return f"{value / 1e9:g} GB/s"
    if isinstance(value, int) and key.endswith("_bytes"):
        return size(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def size(size_bytes: int) -> str:
    """`512 MiB`, `8 GiB`."""
    amount, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:g} {unit}" if amount == round(amount) else f"{amount:.1f} {unit}"
