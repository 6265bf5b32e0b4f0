"""`edgewright targets`: the boards that a model can be compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .board import Board

# The rest is imported inside the commands: `edgewright targets --help` stays quick.

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group()
def targets() -> None:
    """List, show, validate and compare target boards.

    A TARGET is the name of a shipped board, `host` (this machine, detected), or the path of a board file of your own,
    such as ./my-board.toml.
    """


@targets.command(
    name="list",
    epilog="""\b
Examples:
  edgewright targets list
  edgewright targets list --json | jq -r '.[].name'
""",
)
@_JSON
def list_boards(as_json: bool) -> None:
    """List the boards that can be named, with this machine first."""
    from .boardfile import HOST
    from .catalog import board_names, load_board
    from .faults import EnvironmentFault
    from .show import print_boards

    boards = []
    for name in board_names():
        try:
            boards.append(load_board(name))
        except EnvironmentFault as fault:
            # The catalogue is of use on a machine that is itself no target.
            if name != HOST:
                raise
            click.echo(f"edgewright: {fault}", err=True)
    if as_json:
        _print_json([_with_digest(board) for board in boards])
    else:
        print_boards(boards)


@targets.command(
    epilog="""\b
Examples:
  edgewright targets show raspberry-pi-5
  edgewright targets show host --json | jq .cpu.isa
  edgewright targets show ./my-board.toml
"""
)
@click.argument("target")
@_JSON
def show(target: str, as_json: bool) -> None:
    """Show everything that is known of one board, with inheritance resolved and where the figures come from."""
    from .catalog import load_board
    from .show import print_board

    board = load_board(target)
    if as_json:
        _print_json(_with_digest(board))
    else:
        print_board(board)


@targets.command(
    epilog="""\b
Examples:
  edgewright targets validate ./my-board.toml
  edgewright targets validate boards/*.toml --json
"""
)
@click.argument("target", nargs=-1, required=True)
@_JSON
@click.pass_context
def validate(context: click.Context, target: tuple[str, ...], as_json: bool) -> None:
    """Check board files: which key is wrong, what was expected, and in which file.

    Every TARGET is checked. Exit code 0 when all are right, 2 when one is not.
    """
    from .board import BoardError
    from .catalog import load_board

    verdicts: list[dict[str, object]] = []
    for name_or_path in target:
        try:
            board = load_board(name_or_path)
            verdict: dict[str, object] = {"target": name_or_path, "valid": True, "name": board.name}
            verdict |= {"digest": board.digest(), "error": None}
        except BoardError as error:
            verdict = {"target": name_or_path, "valid": False, "name": None, "digest": None, "error": str(error)}
        verdicts.append(verdict)
        if not as_json:
            _print_verdict(verdict)
    if as_json:
        _print_json(verdicts)
    if not all(verdict["valid"] for verdict in verdicts):
        context.exit(BoardError.exit_code)


@targets.command(
    epilog="""\b
Examples:
  edgewright targets diff raspberry-pi-4 raspberry-pi-5
  edgewright targets diff host x86-64-avx512-vnni --json
"""
)
@click.argument("left")
@click.argument("right")
@_JSON
def diff(left: str, right: str, as_json: bool) -> None:
    """Show which keys differ between two boards. Exit code 0 whether or not any do."""
    from .catalog import load_board
    from .diff import diff_boards
    from .show import print_differences

    left_board, right_board = load_board(left), load_board(right)
    differences = diff_boards(left_board, right_board)
    if as_json:
        _print_json({"left": left_board.name, "right": right_board.name, "differences": differences})
    else:
        print_differences(left_board, right_board, differences)


def _print_verdict(verdict: dict[str, object]) -> None:
    if verdict["valid"]:
        click.echo(f"{verdict['target']}: valid, {verdict['name']} {verdict['digest']}")
    else:
        click.echo(f"edgewright: {verdict['error']}", err=True)


def _with_digest(board: Board) -> dict[str, object]:
    import msgspec

    return {**msgspec.to_builtins(board), "digest": board.digest()}


def _print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
