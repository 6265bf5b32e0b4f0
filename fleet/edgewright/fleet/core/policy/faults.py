"""What is wrong with a policy, or with an expression in one."""

from __future__ import annotations

from edgewright.targets.faults import UserFault


class PolicyError(UserFault):
    """The policy cannot be used; the message says which key, what was expected and what came."""
