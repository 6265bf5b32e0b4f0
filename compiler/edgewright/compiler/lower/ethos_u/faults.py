"""What can go wrong around Vela."""

from __future__ import annotations

from ...faults import UnsupportedModel


class VelaFault(UnsupportedModel):
    """Vela refused the model or crashed on it, or wrote something that is not its result."""
