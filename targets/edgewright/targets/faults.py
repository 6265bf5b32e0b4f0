"""Errors by who can mend them. Every error that a command shows on purpose is one of these two kinds.

    Fault
    ├── UserFault          the input is wrong: say what was expected, what came, where, and what to do   exit 2
    └── EnvironmentFault   the input is fine, this machine is not: something is missing, full, or away   exit 5

Anything else that reaches the top is our bug, and is shown as a traceback on purpose.
"""

from __future__ import annotations


class Fault(Exception):
    """Base of the errors that are shown to a person without a traceback."""

    exit_code = 1


class UserFault(Fault):
    """What the user gave us is wrong."""

    exit_code = 2


class EnvironmentFault(Fault):
    """What we were asked is fine, but this machine cannot do it now."""

    exit_code = 5
