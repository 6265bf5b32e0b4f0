"""Which answers carry how long they took: the `trace` extension.

With level TIMESTAMPS every `trace_rate`-th inference, at most `trace_count` of them, is answered with its times as
parameters: nothing is written to disk, and a client sees its own times only.
"""

from __future__ import annotations

from collections.abc import Mapping

from .refusal import Refusal

Values = dict[str, str | list[str]]

_LEVELS = ("OFF", "TIMESTAMPS")
_LARGEST = 2**31 - 1


class _Tracing:
    """The settings of one model, or of all, and how far they are."""

    __slots__ = ("count", "level", "rate", "seen")

    def __init__(self, level: str = "OFF", rate: int = 1000, count: int = -1) -> None:
        self.level, self.rate, self.count = level, rate, count
        self.seen = 0

    def take(self) -> bool:
        if self.level == "OFF" or self.count == 0:
            return False
        self.seen += 1
        if self.seen % self.rate:
            return False
        self.count -= self.count > 0
        return True


class TraceSettings:
    """Of all models, and of those that have their own."""

    def __init__(self) -> None:
        self._all = _Tracing()
        self._models: dict[str, _Tracing] = {}
        self.active = False
        """False while nothing is traced: then nobody needs to ask `take`."""

    def take(self, model: str) -> bool:
        """Return whether this inference of the model is traced, and count it."""
        return self._models.get(model, self._all).take()

    def as_json(self, model: str | None = None) -> Values:
        """Return the settings of a model, or of all, in Triton's words."""
        of = self._all if model is None else self._models.get(model, self._all)
        return {
            "trace_level": [of.level],
            "trace_rate": str(of.rate),
            "trace_count": str(of.count),
            "log_frequency": "0",
            "trace_file": "",
            "trace_mode": "triton",
        }

    def update(self, changes: Mapping[str, object], model: str | None = None) -> None:
        """Change what is named; None brings back the default, or for a model what is set for all.

        Raises:
            Refusal: 400, an unknown setting, a wrong value, or one that clients cannot change.
        """
        start = self._all if model is None else self._models.get(model, self._all)
        default = _Tracing() if model is None else self._all
        found = _Tracing(start.level, start.rate, start.count)
        for name, value in changes.items():
            if name == "trace_level":
                found.level = default.level if value is None else _level(value)
            elif name == "trace_rate":
                found.rate = default.rate if value is None else _number(name, value, 1)
            elif name == "trace_count":
                found.count = default.count if value is None else _number(name, value, -1)
            elif value is not None and value not in (self.as_json().get(name), [self.as_json().get(name)]):
                known = list(self.as_json())
                raise Refusal(400, f"trace setting '{name[:100]}' cannot be changed here; settings are {known}")
        if model is None:
            self._all = found
        elif changes and all(value is None for value in changes.values()):
            self._models.pop(model, None)
        else:
            self._models[model] = found
        self.active = any(each.level != "OFF" for each in (self._all, *self._models.values()))


def _level(value: object) -> str:
    levels = value if isinstance(value, list) else [value]
    if not levels or any(level not in _LEVELS for level in levels):
        raise Refusal(400, f"trace_level must be of {list(_LEVELS)}, not {str(value)[:60]}")
    return "TIMESTAMPS" if "TIMESTAMPS" in levels else "OFF"


def _number(name: str, value: object, least: int) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    digits = text.removeprefix("-")
    number = int(text) if digits.isdecimal() and digits.isascii() and len(digits) <= 10 else least - 1
    if not least <= number <= _LARGEST:
        raise Refusal(400, f"{name} must be a whole number from {least} to {_LARGEST}")
    return number
