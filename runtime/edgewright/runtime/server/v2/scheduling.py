"""What parameters ask of the scheduler: the extensions `schedule_policy` and `sequence`, and sticky routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..pipeline import SequenceStep
from ..refusal import Refusal

_KEY_LENGTH = 256
"""Characters of a key or of a sequence's name."""

_MAX_PRIORITY = 2**32 - 1
_MAX_TIMEOUT_US = 24 * 3600 * 1_000_000


class Scheduling(NamedTuple):
    """How a job wants to be treated; the fields are those of `pipeline.Job`."""

    priority: int = 0
    timeout_us: int | None = None
    key: str = ""
    sequence: SequenceStep | None = None


_PLAIN = Scheduling()


def read_scheduling(parameters: Mapping[str, object] | None) -> Scheduling:
    """Return what the parameters of a request say: `priority`, `timeout` (µs), `key`, `sequence_id`/`_start`/`_end`.

    Raises:
        Refusal: 400, one of them is no such value.
    """
    if not parameters:
        return _PLAIN
    timeout_us = _whole(parameters, "timeout", _MAX_TIMEOUT_US)
    key = parameters.get("key") or ""
    if not isinstance(key, str | int) or len(text := str(key)) > _KEY_LENGTH:
        raise Refusal(400, f"the parameter 'key' must be text of at most {_KEY_LENGTH} characters")
    return Scheduling(_whole(parameters, "priority", _MAX_PRIORITY), timeout_us or None, text, _sequence(parameters))


def _whole(parameters: Mapping[str, object], name: str, limit: int) -> int:
    value = parameters.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise Refusal(400, f"the parameter '{name}' must be a whole number from 0 to {limit}")
    return value


def _sequence(parameters: Mapping[str, object]) -> SequenceStep | None:
    identity = parameters.get("sequence_id")
    if not identity or isinstance(identity, bool):  # 0 and the empty text are no sequence, as Triton has it
        if parameters.get("sequence_start") or parameters.get("sequence_end"):
            raise Refusal(400, "sequence_start and sequence_end need a sequence_id that is not 0 and not empty")
        return None
    if not isinstance(identity, str | int) or len(text := str(identity)) > _KEY_LENGTH:
        raise Refusal(400, f"sequence_id must be a number, or text of at most {_KEY_LENGTH} characters")
    flags = []
    for name in ("sequence_start", "sequence_end"):
        flag = parameters.get(name, False)
        if not isinstance(flag, bool):
            raise Refusal(400, f"the parameter '{name}' must be true or false")
        flags.append(flag)
    return SequenceStep(text, *flags)
