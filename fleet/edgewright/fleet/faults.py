"""What the fleet refuses, by HTTP status and exit code.

FleetError         UserFault          400  the request is wrong
├── NotFoundError                          404  there is no such thing
├── ConflictError                          409  right request, wrong state
├── UnauthorizedError                      401  no credential, or one that does not fit
└── TooLargeError                          413  more bytes than this fleet takes
FleetUnavailable   EnvironmentFault   503  this machine or the server is in the way
"""

from __future__ import annotations

from edgewright.targets.faults import EnvironmentFault, UserFault


class FleetError(UserFault):
    """A request that the fleet refuses."""

    status = 400


class NotFoundError(FleetError):
    """There is no such device, release, rollout or artifact."""

    status = 404


class ConflictError(FleetError):
    """The request is well formed, but does not fit the state that things are in."""

    status = 409


class UnauthorizedError(FleetError):
    """No credential came, or one that does not fit."""

    status = 401


class TooLargeError(FleetError):
    """More bytes than this fleet takes."""

    status = 413


class FleetUnavailable(EnvironmentFault):
    """The fleet server is not there, or this machine does not let it run."""

    status = 503
