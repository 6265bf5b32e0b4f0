"""What is logged, switched while the server runs: the `logging` extension."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .refusal import Refusal

Setting = bool | int | str

_LEVELS = (("log_info", logging.INFO), ("log_warning", logging.WARNING), ("log_error", logging.ERROR))
_DEBUG_FROM = 2
_MOST_VERBOSE = 9


class LogSettings:
    """Levels of the server's log. From `log_verbose_level` 1 on each request is logged, from 2 on the details too."""

    def __init__(self, *, access_log: bool = False, log_format: str = "text") -> None:
        self._logger = logging.getLogger("edgewright")
        self._on = {name: True for name, _ in _LEVELS}
        self._verbose = int(access_log)
        self._format = log_format

    @property
    def access_log(self) -> bool:
        """Whether each request is logged."""
        return self._verbose > 0

    def as_json(self) -> dict[str, Setting]:
        """Return the settings in Triton's words."""
        return {"log_file": "", **self._on, "log_verbose_level": self._verbose, "log_format": self._format}

    def update(self, changes: Mapping[str, object]) -> None:
        """Change what is named; all of it or, where something is wrong, nothing.

        Raises:
            Refusal: 400, an unknown setting, a wrong value, or one that clients cannot change.
        """
        known = self.as_json()
        for name, value in changes.items():
            if name not in known:
                raise Refusal(400, f"unknown log setting '{name[:100]}'; there are {list(known)}")
            if name in {"log_file", "log_format"}:
                if value != known[name]:
                    raise Refusal(400, f"'{name}' is what the device's configuration says; clients do not change it")
            elif name == "log_verbose_level":
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_VERBOSE:
                    raise Refusal(400, f"'{name}' must be a whole number from 0 to {_MOST_VERBOSE}")
            elif not isinstance(value, bool):
                raise Refusal(400, f"'{name}' must be true or false")
        for name, value in changes.items():
            if isinstance(value, bool):
                self._on[name] = value
            elif isinstance(value, int):
                self._verbose = value
        self._apply()

    def _apply(self) -> None:
        on = [level for name, level in _LEVELS if self._on[name]]
        level = logging.DEBUG if self._verbose >= _DEBUG_FROM else min(on, default=logging.CRITICAL)
        self._logger.setLevel(level)
