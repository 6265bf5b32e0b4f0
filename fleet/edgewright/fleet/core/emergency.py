"""The whole fleet's emergency stop: what still goes out while it stands."""

from __future__ import annotations

from collections.abc import Iterable

from .rows import Assign, Command, Graduate, Retry


def may_go_out(command: Command, *, is_stopped: bool) -> bool:
    """Tell whether a command may be carried out.

    While the stop stands, no device is ordered to anything new: no order, no retry, no control's graduation. What takes
    devices back, what gates decide and what is learnt goes on, so that a bad release is still found and taken back.
    """
    return not (is_stopped and isinstance(command, Assign | Graduate | Retry))


def held_back(commands: Iterable[Command], *, is_stopped: bool) -> tuple[Command, ...]:
    """Return the commands that may go out."""
    return tuple(command for command in commands if may_go_out(command, is_stopped=is_stopped))
