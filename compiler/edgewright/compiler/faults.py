"""What `edgewright compile` says on purpose, by exit code.

    UserFault
    ├── ModelError (2)            the model file is damaged, too large, or not what it should be
    ├── DataError (2)             the .npz does not fit
    ├── MetricError (2)           metric or budget cannot be used with this data
    ├── ReplayError (2)           the measurements file has no figures for this build
    ├── PlanError (2)             the plan is damaged, or does not fit the model
    └── UnsupportedModel (4)      an operator, opset or domain that no engine of the target runs
        └── NotQuantizable        it runs in float, but has no int8 form
    EnvironmentFault
    └── ToolchainMissing (5)      the engine or toolchain for the target is not here

That a budget was missed (3) is an outcome, not an error: it stands in the report and in the exit code.
"""

from __future__ import annotations

from edgewright.targets.faults import EnvironmentFault, UserFault

EXIT_SHIPPED = 0
EXIT_BUDGET_MISSED = 3
EXIT_UNSUPPORTED = 4
EXIT_TOOLCHAIN_MISSING = 5

MAX_QUOTED_CHARACTERS = 300


class ModelError(UserFault):
    """The model cannot be read as it is."""


class DataError(UserFault):
    """The data file cannot be used."""


class MetricError(UserFault):
    """The metric or the budget cannot be used with this model and data."""


class ReplayError(UserFault):
    """The measurements that were given do not belong to this build."""


class PlanError(UserFault):
    """The plan file cannot be used."""


class UnsupportedModel(UserFault):
    """The model has something that cannot be compiled; the message names it, its place, the reason and the remedy."""

    exit_code = EXIT_UNSUPPORTED


class NotQuantizable(UnsupportedModel):
    """The model has no int8 form; a target that runs float gets the float model."""


class ToolchainMissing(EnvironmentFault):
    """Nothing here can build or run what the target needs."""

    exit_code = EXIT_TOOLCHAIN_MISSING


def first_line(error: BaseException) -> str:
    """What a library said, short enough for one line; its class where it said nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:MAX_QUOTED_CHARACTERS] if lines else type(error).__name__
